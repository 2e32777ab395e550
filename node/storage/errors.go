package storage

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrInUse means that another process has the data folder open.
var ErrInUse = errors.New("in use by another process")

// WriteError says what could not be written, why, where, and what to do about it.
func WriteError(what, dir string, err error) error {
	advice := "check the disk and start the node again"
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, full) {
			err, advice = full, "free space and start the node again"
		}
	}
	return fmt.Errorf("write %s: %w (%s): %s", what, err, dir, advice)
}

// corrupt says which file is damaged and how.
func corrupt(path string, cause any) error {
	return fmt.Errorf("raft log %s is corrupt: %v: replace this node", path, cause)
}

// corruptAt is corrupt for one entry.
func corruptAt(path string, index uint64, cause any) error {
	return fmt.Errorf("raft log %s is corrupt at index %d: %v: replace this node", path, index, cause)
}
