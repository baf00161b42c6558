"""Publication and leftovers where file systems and process numbers are not one's own."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bpfree_common.running import owner, publish, scratch


def can_unshare(*what: str) -> bool:
    command = ["unshare", *what, "true"]
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(command, capture_output=True).returncode
    )


needs_mounts = pytest.mark.skipif(not can_unshare("--mount"), reason="may not mount")
needs_pids = pytest.mark.skipif(
    not can_unshare("--pid", "--fork", "--mount-proc"), reason="no PID namespaces"
)


def report(folder: Path, text: str) -> Path:
    """A report of three files which all hold `text`."""
    (folder / "figures").mkdir(parents=True)
    for name in ("tiny.ipynb", "record.json", "figures/a.png"):
        (folder / name).write_text(text)
    return folder


def texts(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.rglob("*") if path.is_file()}


PUBLISH = """
import sys
from pathlib import Path
from bpfree_common.running.publish import publish
publish(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def in_a_mount_namespace(script: str, *arguments) -> None:
    command = ["unshare", "--mount", "sh", "-euc", script, "sh", sys.executable]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


# --- other file systems -----------------------------------------------------------------


@needs_mounts
@pytest.mark.parametrize("options", ["redirect_dir=off", "redirect_dir=on"])
def test_a_report_that_came_with_a_container_image_is_replaced(tmp_path, options):
    """An overlay's lower folder can neither be exchanged nor, without redirect, moved."""
    report(tmp_path / "lower/quick/tiny", "old")
    for name in ("upper", "rw", "merged", "seen"):
        (tmp_path / name).mkdir()
    report(tmp_path / "new", "new")
    script = f"""
        root=$2; mount -t tmpfs none $root/rw; mkdir $root/rw/u $root/rw/w
        mount -t overlay none $root/merged \\
          -o lowerdir=$root/lower,upperdir=$root/rw/u,workdir=$root/rw/w,{options}
        mkdir $root/merged/.staging; cp -r $root/new $root/merged/.staging/one
        $1 -c "$3" $root/merged/.staging/one $root/merged/quick/tiny
        cp -r $root/merged/. $root/seen
    """
    in_a_mount_namespace(script, tmp_path, PUBLISH)
    seen = tmp_path / "seen"
    assert texts(seen / "quick/tiny") == {"new"}
    assert len(list((seen / "quick/tiny").rglob("*"))) == 4
    assert not list((seen / ".staging").iterdir())
    assert [path.name for path in (seen / "quick").iterdir()] == ["tiny"]


@needs_mounts
def test_a_profile_that_is_a_mount_of_its_own_is_published_into(tmp_path):
    report(tmp_path / "new", "new")
    for name in ("reports/quick", "reports/.staging", "seen"):
        (tmp_path / name).mkdir(parents=True)
    script = """
        root=$2; mount -t tmpfs none $root/reports/quick
        for turn in 1 2; do
          cp -r $root/new $root/reports/.staging/$turn
          $1 -c "$3" $root/reports/.staging/$turn $root/reports/quick/tiny
        done
        cp -r $root/reports/. $root/seen
    """
    in_a_mount_namespace(script, tmp_path, PUBLISH)
    assert texts(tmp_path / "seen/quick/tiny") == {"new"}
    names = [path.name for path in (tmp_path / "seen/quick").iterdir()]
    assert names == ["tiny"]
    assert not list((tmp_path / "seen/.staging").iterdir())


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
@pytest.mark.parametrize("linked", ["quick", "quick/tiny"])
def test_a_link_to_another_disk_stays_and_its_place_is_renewed(tmp_path, linked):
    if Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system only")
    elsewhere = Path("/dev/shm") / f"bpfree-test-{os.getpid()}-{linked.count('/')}"
    try:
        report(elsewhere if "/" in linked else elsewhere / "tiny", "old")
        link = tmp_path / linked
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(elsewhere)
        publish.publish(report(tmp_path / "new", "new"), tmp_path / "quick/tiny")
        assert link.is_symlink()
        assert texts(tmp_path / "quick/tiny") == {"new"}
        assert not (tmp_path / "new").exists()
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)


@pytest.mark.parametrize("before", [False, True])
def test_processes_that_publish_one_report_at_once_all_succeed(tmp_path, before):
    script = """
import sys, time
from pathlib import Path
from bpfree_common.running.publish import publish
root, name = Path(sys.argv[1]), sys.argv[2]
for turn in range(60):
    folder = root / f"{name}-{turn}"
    folder.mkdir()
    for file in ("a", "b"):
        (folder / file).write_text(name)
    while not (root / f"go-{turn}").exists():
        pass
    publish(folder, root / f"final-{turn}")
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name])
        for name in ("one", "two")
    ]
    for turn in range(60):
        if before:
            report(tmp_path / f"final-{turn}", "old")
        while not all((tmp_path / f"{n}-{turn}" / "b").exists() for n in ("one", "two")):
            assert all(process.poll() is None for process in processes)
            time.sleep(0.001)
        (tmp_path / f"go-{turn}").touch()
    assert [process.wait(60) for process in processes] == [0, 0]
    for turn in range(60):
        assert texts(tmp_path / f"final-{turn}") in ({"one"}, {"two"})


# --- whose leftovers --------------------------------------------------------------------


def staged(reports: Path, name: str) -> Path:
    folder = reports / publish.STAGING / f"{name}-quick-tiny-x"
    folder.mkdir(parents=True)
    return folder


def dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_living_owner_keeps_what_it_has_prepared(tmp_path):
    folder = publish.open_staging(tmp_path, "quick", "tiny")
    publish.clear_leftovers(tmp_path)
    assert folder.is_dir()


def test_what_a_dead_process_left_is_cleared(tmp_path):
    host = owner.name().rsplit(".", 2)[0]
    folder = staged(tmp_path, f"{host}.{dead_process()}.12345")
    beside = tmp_path / "quick" / f".new-{host}.{dead_process()}.12345-tiny-x"
    beside.mkdir(parents=True)
    publish.clear_leftovers(tmp_path)
    assert not folder.exists()
    assert not beside.exists()


def test_a_number_that_was_given_out_again_is_another_process(tmp_path):
    host, pid, started = owner.name().rsplit(".", 2)
    folder = staged(tmp_path, f"{host}.{pid}.{int(started) - 1}")
    publish.clear_leftovers(tmp_path)
    assert not folder.exists()


def test_a_zombie_is_dead(tmp_path):
    process = subprocess.Popen(["sleep", "60"])
    folder = staged(tmp_path, owner.name(process.pid))
    publish.clear_leftovers(tmp_path)
    assert folder.is_dir()
    process.kill()
    while Path(f"/proc/{process.pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.01)
    publish.clear_leftovers(tmp_path)
    assert not folder.exists()
    process.wait()


def test_another_host_keeps_its_work_until_it_has_been_silent_for_a_day(tmp_path):
    folder = staged(tmp_path, f"elsewhere.4026531836.{dead_process()}.1")
    publish.clear_leftovers(tmp_path)
    assert folder.is_dir()
    long_ago = time.time() - owner.SILENCE - 1
    os.utime(folder, (long_ago, long_ago))
    publish.clear_leftovers(tmp_path)
    assert not folder.exists()


@needs_pids
def test_a_runner_in_another_container_leaves_a_living_ones_work_alone(tmp_path):
    folder = publish.open_staging(tmp_path, "quick", "tiny")
    script = """
import sys
from pathlib import Path
from bpfree_common.running import publish
publish.clear_leftovers(Path(sys.argv[1]))
print(publish.open_staging(Path(sys.argv[1]), "quick", "tiny").name)
"""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", script]
    inside = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert folder.is_dir()
    assert inside.stdout.split("-")[0] != owner.name()
    publish.clear_leftovers(tmp_path)  # nor do we know whether that one lives
    assert (tmp_path / publish.STAGING / inside.stdout.strip()).is_dir()


def test_a_name_that_is_no_owners_is_left_alone(tmp_path):
    folder = staged(tmp_path, "mine")
    publish.clear_leftovers(tmp_path)
    assert folder.is_dir()


# --- folders for sockets ----------------------------------------------------------------


def test_sockets_get_a_short_folder_where_the_temporary_one_is_long(
    tmp_path, monkeypatch
):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    folder = scratch.open_scratch()
    assert scratch.fits(folder)
    shutil.rmtree(folder)


def test_scratch_folders_of_dead_processes_are_cleared_and_others_kept(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(scratch, "_roots", lambda: [tmp_path])
    mine = scratch.open_scratch()
    dead, foreign = tmp_path / "bpfree-dead", tmp_path / "bpfree-foreign"
    for folder in (dead, foreign):
        folder.mkdir()
    host = owner.name().rsplit(".", 2)[0]
    (dead / scratch.OWNER).write_text(f"{host}.{dead_process()}.5")
    scratch.clear_leftovers()
    assert mine.is_dir()
    assert foreign.is_dir()
    assert not dead.exists()


def test_a_staging_folder_says_whose_it_is(tmp_path):
    name = publish.open_staging(tmp_path, "custom/number=7", "tiny").name
    assert name.startswith(f"{owner.name()}-custom-number=7-tiny-")
