"""Where running text is cut into words."""

import re

from thalweg.stimuli.scripts import MARKS

LETTER = rf"\w{MARKS}"  # Python's \w lacks the marks that belong to letters, as the vowels of Hindi and Thai
RUN = (
    "{1,200}"  # of a longer one, as a text without spaces may be, each part is a word: merges cost its length each time
)
WORD = re.compile(rf"\n| ?[{LETTER}]{RUN}(?:['’][{LETTER}]{RUN})*| ?[^{LETTER} \n]{RUN}| ")
