from pathlib import Path

import pytest

from prefkit.mounts import is_shared, kind_of

TABLE = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
36 22 0:31 / /mnt/team rw,relatime shared:5 - nfs4 server:/team rw,vers=4.2
37 36 0:32 / /mnt/team/scratch rw - tmpfs tmpfs rw
38 22 0:33 / /mnt/with\\040space rw - cifs //server/share rw
39 22 0:34 / /mnt/bucket rw - fuse.gcsfuse bucket rw
40 22 0:35 / /mnt/team/twice rw - ext4 /dev/a rw
41 22 0:36 / /mnt/team/twice rw - lustre mgs rw
torn line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/runs", "ext4"),
        ("/mnt/team/runs", "nfs4"),
        ("/mnt/teams", "ext4"),
        ("/mnt/team/scratch/runs", "tmpfs"),
        ("/mnt/with space/runs", "cifs"),
        ("/mnt/bucket", "fuse.gcsfuse"),
        ("/mnt/team/twice/x", "lustre"),
    ],
)
def test_the_deepest_mount_says_what_a_folder_is_on(path, kind):
    assert kind_of(Path(path), TABLE) == kind


def test_a_folder_of_this_machine_is_not_shared(tmp_path):
    assert kind_of(tmp_path)
    assert not is_shared(tmp_path)
    assert kind_of(tmp_path, "") == ""
