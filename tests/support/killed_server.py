"""A study's server that is started again whenever it is killed: `python killed_server.py STUDY URL`.

It imports everything once; each server is a fork. It prints its port, and the process of each server.
"""

import os
import sys
from pathlib import Path

from thalweg.study.app import make_app
from thalweg.study.design import open_study
from thalweg.study.serving import bound, server_of
from thalweg.study.store import open_store


def main(path: Path, url: str) -> None:
    study, sock = open_study(path), bound("127.0.0.1", 0)
    store = open_store(study, url)
    store.close()  # connections are made anew in each fork
    app = make_app(study, store, flood=0)
    _ = study.items, study.lists, study.shelf
    sock.listen(128)
    print(sock.getsockname()[1], flush=True)
    while True:
        process = os.fork()
        if not process:
            server_of(app).run(sockets=[sock])
            os._exit(0)
        print(process, flush=True)
        os.waitpid(process, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
