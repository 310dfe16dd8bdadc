"""Says what the agent remembers, for checks from outside.

    python3 -m agent.recall         the memory's identity: the same words for
                                    as long as the agent keeps its memory
    python3 -m agent.recall KEY     what it learned about KEY

Exits 1 when there is nothing, or nobody to ask.
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

from agent.settings import HEALTH_PORT


def ask(path: str) -> dict:
    with urllib.request.urlopen(f"http://127.0.0.1:{HEALTH_PORT}{path}", timeout=3) as answer:
        return json.load(answer)


def main(arguments: list[str]) -> int:
    try:
        if arguments:
            print(ask("/recall/" + urllib.parse.quote(arguments[0], safe=""))["value"])
        else:
            print("memory " + ask("/memory")["identity"])
    except urllib.error.HTTPError as error:
        print(json.load(error)["error"], file=sys.stderr)
        return 1
    except OSError as error:
        print(f"the planner does not answer: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
