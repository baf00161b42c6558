"""One run of one notebook, in a process of its own, from papermill to publication.

Started by the runner as ``python -m bpfree_common.running.execute JOB``, or forked by the
warm process; JOB is the staging folder that holds `job.json`. It leaves `result.json`
there and exits with 0 only when the report and its record are in place.
"""

import contextlib
import errno
import json
import os
import shutil
import sys
from pathlib import Path

import fastjsonschema

from bpfree_common import records
from bpfree_common.papers import notebook
from bpfree_common.running import engine, processes, publish
from bpfree_common.running.failures import failure

JOB, RESULT, CELLS, PROGRESS = "job.json", "result.json", "cells.json", "progress.json"
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
DISK_FULL = 74  # exit code: not even the result could be written
LARGEST = 64 * 2**20  # bytes of an executed notebook


def main(folder: Path, seed=None) -> int:
    """Run the job in `folder`; 0 on success, 1 on failure, DISK_FULL.

    seed: a waiting process that becomes the kernel; without it one is started.
    """
    processes.die_with_parent(int(os.environ["BPFREE_RUNNER"]))
    processes.adopt_orphans()
    try:
        job = json.loads((folder / JOB).read_text())
        result = run_job(job, folder, seed)
        (folder / RESULT).write_text(json.dumps(result))
    except OSError as error:
        if error.errno in NO_SPACE:
            return DISK_FULL
        raise
    finally:
        processes.kill_children()
    return 0 if result["ok"] else 1


def run_job(job: dict, folder: Path, seed=None) -> dict:
    """Execute the notebook, check its record, publish both; the result for the runner."""
    report = folder / "report"
    report.mkdir()
    os.environ.update(
        BPFREE_RUN_DIR=str(report),
        BPFREE_PROFILE=job["profile"],
        BPFREE_PROGRESS=str(folder / PROGRESS),
        BPFREE_REPORTS=job["reports"],
    )
    executed = report / f"{job['slug']}.ipynb"
    error = (
        run_notebook(job, folder, executed, seed)
        or check_record(job, report)
        or check_size(executed)
    )
    if error is not None:
        keep_failed(executed, Path(job["failed"]))
        return error
    clean(executed)
    records.seal(report / records.NAME, executed)
    publish.publish(report, Path(job["final"]))
    return {"ok": True}


def run_notebook(job: dict, folder: Path, executed: Path, seed) -> dict | None:
    """Execute through papermill; None, or what went wrong."""
    # jsonschema, which papermill imports, would spend a second on an optional grammar
    sys.modules.setdefault("rfc3987_syntax", None)
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    papermill.engines.papermill_engines.register("bpfree", engine.watching(folder))
    try:
        papermill.execute_notebook(
            job["notebook"],
            executed,
            parameters=job["parameters"],
            engine_name="bpfree",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            km=engine.manager(Path(job["scratch"]), seed),
            iopub_timeout=engine.OUTPUT_PATIENCE,
        )
    except PapermillExecutionError as error:
        return failure(error.ename, str(error.evalue), error.exec_count, str(error))
    except DeadKernelError:
        return failure("DeadKernelError", "the kernel died (killed, or out of memory)")
    except CellTimeoutError:  # no cell has a limit: only its outputs can be late
        limit = engine.OUTPUT_PATIENCE
        text = f"a cell printed more than could be read within {limit} s of its end"
        return failure("TooMuchOutput", text)
    finally:
        processes.kill_children()
        shutil.rmtree(job["scratch"], ignore_errors=True)
    return None


def check_record(job: dict, report: Path) -> dict | None:
    """The record is the only proof of success; None if it is there and fits the job."""
    path = report / records.NAME
    if not path.is_file():
        return failure("NoRecord", "the notebook ended without writing its record")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        records.check(record)
    except fastjsonschema.JsonSchemaException as error:
        text = f"the notebook's record does not follow the schema: {error.message}"
        return failure("BadRecord", text)
    except (ValueError, RecursionError) as error:
        return failure("BadRecord", f"the notebook left a damaged record ({error})")
    if (record["method"], record["profile"]) != (job["slug"], job["profile"]):
        return failure("WrongRecord", "the record is of another notebook or profile")
    return None


def check_size(executed: Path) -> dict | None:
    """None, unless the notebook's outputs are too large for a report."""
    size = executed.stat().st_size
    if size <= LARGEST:
        return None
    words = f"{size / 2**20:.0f} MiB, more than the {LARGEST // 2**20} of a report"
    return failure("TooMuchOutput", f"the executed notebook has {words}")


def clean(path: Path) -> None:
    """Drop execution times, paths and chance, so that equal runs give equal files."""
    content = notebook.read(path)
    content["metadata"].pop("papermill", None)
    for cell in content["cells"]:
        tags = notebook.tags(cell)
        cell["metadata"] = {"tags": tags} if tags else {}
        if "injected-parameters" in tags:
            cell["id"] = "injected-parameters"  # papermill draws it at random
        if "outputs" in cell:
            cell["outputs"] = notebook.joined(cell["outputs"])
    text = json.dumps(content, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def keep_failed(executed: Path, target: Path) -> None:
    """Keep the notebook of a failed run under another name, for a look at it."""
    with contextlib.suppress(FileNotFoundError):
        target.parent.mkdir(parents=True, exist_ok=True)
        publish.move(executed, target)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
