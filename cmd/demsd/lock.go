package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// leaveTimeout is how long the processes of a cluster that was just killed may take to be gone, in which they still
	// hold their folder and their port.
	leaveTimeout = 2 * time.Second
	// leaveInterval is how often that is looked at.
	leaveInterval = 20 * time.Millisecond
)

// lockFolder takes a folder until the file that it returns is closed, here and in every process that inherited it. So a
// folder is taken until the last process of a cluster has ended, even if the first was killed.
func lockFolder(ctx context.Context, dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	err = whileItLeaves(ctx, syscall.EWOULDBLOCK, func() error {
		return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	})
	if err != nil {
		err = fmt.Errorf("data folder %s is in use by another demsd dev (%w); stop that one or choose another --data-dir", dir, err)
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// whileItLeaves tries again, for leaveTimeout or until ctx ends, what fails because something is in use.
func whileItLeaves(ctx context.Context, inUse error, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	ticker := time.NewTicker(leaveInterval)
	defer ticker.Stop()
	for {
		err := try()
		if !errors.Is(err, inUse) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-ticker.C:
		}
	}
}
