"""A checker with the command line and the report of minigrad.derivation, for tests of what surrounds it.

``python standin_checker.py HOMEWORK FILE --json --seed N``: the homework's task.py has LINES = {name: (function, points)} on one
number. The student's file runs in a child, as it does under the real checker.
"""

import argparse
import json
import os
import random
import runpy
import subprocess
import sys
from pathlib import Path


def child(file, names, probe):
    """Values of the student's functions as JSON on the descriptor that was standard output; prints go to standard error."""
    channel = os.dup(1)
    os.dup2(2, 1)
    found = {}
    try:
        functions = runpy.run_path(file)
        for name in names:
            try:
                found[name] = ["value", functions[name](probe)] if name in functions else ["not implemented", f"there is no function {name}"]
            except NotImplementedError as e:
                found[name] = ["not implemented", str(e)]
            except Exception as e:
                found[name] = ["error", f"{type(e).__name__}: {e}"]
        answer = {"values": found}
    except SyntaxError as e:
        answer = {"status": "syntax error", "message": str(e)}
    except BaseException as e:
        answer = {"status": "import error", "message": f"{type(e).__name__}: {e}"}
    with os.fdopen(channel, "w") as f:
        json.dump(answer, f)


def report(homework, file, seed):
    lines = runpy.run_path(str(Path(homework) / "task.py"))["LINES"]
    probe = random.Random(seed).randrange(2, 1000)
    done = subprocess.run([sys.executable, __file__, "--child", file, str(probe), *lines], stdout=subprocess.PIPE, check=False)
    answer = json.loads(done.stdout) if done.stdout else {"status": "stopped", "message": f"the file ended the process with status {done.returncode}"}
    entries = []
    for name, (function, points) in lines.items():
        kind, value = answer.get("values", {}).get(name, ["not implemented", ""])
        verdict = ("right" if value == function(probe) else "wrong") if kind == "value" else kind
        message = value if kind != "value" else "" if verdict == "right" else f"got {value}"
        entries.append({"line": name, "verdict": verdict, "points": points, "earned": points if verdict == "right" else 0, "message": message,
                        "code": "sign" if kind == "value" and value == -function(probe) else None, "at": None, "error": None, "bound": None, "case": ""})
    blank = "values" in answer and all(e["verdict"] == "not implemented" for e in entries)
    return {"task": Path(homework).name, "file": file, "seed": seed, "status": answer.get("status", "blank" if blank else "ok"),
            "message": answer.get("message", "nothing is written yet" if blank else ""), "points": sum(e["points"] for e in entries),
            "earned": sum(e["earned"] for e in entries), "lines": entries}


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        child(sys.argv[2], sys.argv[4:], int(sys.argv[3]))
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("homework")
        parser.add_argument("file")
        parser.add_argument("--json", action="store_true")
        parser.add_argument("--seed", type=int, default=0)
        options = parser.parse_args()
        print(json.dumps(report(options.homework, options.file, options.seed)))
