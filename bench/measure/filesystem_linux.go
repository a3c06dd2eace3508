package measure

import (
	"fmt"
	"syscall"
)

// fileSystem names the file system of a path.
func fileSystem(path string) string {
	var st syscall.Statfs_t
	if syscall.Statfs(path, &st) != nil {
		return ""
	}
	names := map[uint32]string{ // statfs(2)
		0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x2fc12fc1: "zfs", 0x01021994: "tmpfs",
		0x794c7630: "overlay", 0x6969: "nfs", 0xf2f52010: "f2fs", 0x65735546: "fuse", 0x01021997: "9p",
	}
	kind := uint32(st.Type)
	if name, ok := names[kind]; ok {
		return name
	}
	return fmt.Sprintf("%#x", kind)
}
