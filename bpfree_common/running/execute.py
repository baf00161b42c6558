"""One run of one notebook, in a process of its own, from papermill to publication.

Started by the runner as ``python -m bpfree_common.running.execute JOB``, where JOB is
the staging folder that holds `job.json`. It leaves `result.json` there and exits with 0
only when the report and its record are in place.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bpfree_common import records
from bpfree_common.papers import notebook
from bpfree_common.running import publish
from bpfree_common.running.processes import die_with_parent, kill_children

JOB, RESULT, CELLS, PROGRESS = "job.json", "result.json", "cells.json", "progress.json"


def main(folder: Path) -> int:
    """Run the job in `folder`; 0 on success, 1 on failure."""
    die_with_parent(int(os.environ["BPFREE_RUNNER"]))
    job = json.loads((folder / JOB).read_text())
    report = folder / "report"
    report.mkdir()
    os.environ.update(
        BPFREE_RUN_DIR=str(report),
        BPFREE_PROFILE=job["profile"],
        BPFREE_PROGRESS=str(folder / PROGRESS),
        BPFREE_REPORTS=job["reports"],
    )
    error = run_notebook(job, folder, report) or check_record(job, report)
    if error is None:
        clean(report / f"{job['slug']}.ipynb")
        records.seal(report / records.NAME, report / f"{job['slug']}.ipynb")
        publish.publish(report, Path(job["final"]))
    else:
        keep_failed(job, report)
    result = error or {"ok": True}
    (folder / RESULT).write_text(json.dumps(result))
    return 0 if error is None else 1


def run_notebook(job: dict, folder: Path, report: Path) -> dict | None:
    """Execute through papermill; None, or what went wrong."""
    # jsonschema, which papermill imports, would spend a second on an optional grammar
    sys.modules.setdefault("rfc3987_syntax", None)
    import papermill
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    papermill.engines.papermill_engines.register("bpfree", watching_engine(folder))
    # short path: names of IPC sockets are limited to about 100 characters
    sockets = Path(tempfile.mkdtemp(prefix="bpfree-"))
    # the asynchronous manager: a blocking client would never notice a dead kernel
    manager = AsyncKernelManager(
        transport="ipc",
        connection_file=str(sockets / "kernel.json"),
        kernel_spec_manager=own_kernel(),
    )
    try:
        papermill.execute_notebook(
            job["notebook"],
            report / f"{job['slug']}.ipynb",
            parameters=job["parameters"],
            engine_name="bpfree",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            km=manager,
        )
    except PapermillExecutionError as error:
        return failure(error.ename, str(error.evalue), error.exec_count, str(error))
    except DeadKernelError:
        return failure("DeadKernelError", "the kernel died (killed, or out of memory)")
    except CellTimeoutError as error:
        return failure("CellTimeoutError", str(error).splitlines()[0])
    finally:
        kill_children()
        shutil.rmtree(sockets, ignore_errors=True)
    return None


def failure(name: str, text: str, cell: int | None = None, trace: str = "") -> dict:
    """What the runner tells the user about a failed run."""
    return {"ok": False, "ename": name, "error": text, "cell": cell, "trace": trace}


def check_record(job: dict, report: Path) -> dict | None:
    """The record is the only proof of success; None if it is there and fits the job."""
    path = report / records.NAME
    if not path.is_file():
        return failure("NoRecord", "the notebook ended without writing its record")
    record = json.loads(path.read_text())
    records.check(record)
    if (record["method"], record["profile"]) != (job["slug"], job["profile"]):
        return failure("WrongRecord", "the record is of another notebook or profile")
    return None


def clean(path: Path) -> None:
    """Drop execution times and paths, so that equal runs give equal files."""
    content = notebook.read(path)
    content["metadata"].pop("papermill", None)
    for cell in content["cells"]:
        cell["metadata"] = {"tags": t} if (t := notebook.tags(cell)) else {}
        if "injected-parameters" in notebook.tags(cell):
            cell["id"] = "injected-parameters"  # papermill draws one at random
        if "outputs" in cell:
            cell["outputs"] = notebook.joined(cell["outputs"])
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def keep_failed(job: dict, report: Path) -> None:
    """Keep the notebook of a failed run under another name, for a look at it."""
    source = report / f"{job['slug']}.ipynb"
    target = Path(job["failed"])
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)


def own_kernel():
    """A kernel-spec manager that knows one kernel: this very environment's."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    class OwnKernel(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            command = [sys.executable, "-m", "bpfree_common.running.kernel"]
            return KernelSpec(
                argv=[*command, "-f", "{connection_file}"],
                display_name="Python 3",
                language="python",
            )

    return OwnKernel()


def watching_engine(folder: Path):
    """papermill's engine, reporting the number of the running cell to `folder`."""
    from papermill.engines import NBClientEngine

    class Watching(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            started = nb_man.cell_start

            def cell_start(cell, cell_index=None, **more):
                state = {"cell": cell_index, "cells": len(nb_man.nb.cells)}
                part = folder / f"{CELLS}.part"
                part.write_text(json.dumps(state))
                part.replace(folder / CELLS)
                return started(cell, cell_index, **more)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    return Watching


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
