"""Images in memory or on disk: what observers of images are given."""

from thalweg.stimuli.files import ImageFiles
from thalweg.stimuli.images import Images

Pictures = Images | ImageFiles
