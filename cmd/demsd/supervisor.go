package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// stopTimeout is how long a process may take to end after SIGTERM before it is killed.
	stopTimeout = 15 * time.Second
	// shortLife is how long a process has to live for its next start not to be delayed.
	shortLife = time.Second
	// minRestartPause and maxRestartPause bound the pause before a process that died young is started again; it doubles.
	minRestartPause = 100 * time.Millisecond
	maxRestartPause = 5 * time.Second
)

// process is a process that a supervisor keeps running.
type process struct {
	name string
	dir  string // gets its log, as a file named log
	args []string
}

// supervisor starts processes of this program again when they die.
type supervisor struct {
	executable string
	inherited  []*os.File // open in every process
	logger     *slog.Logger
}

// keep runs a process until the context ends, and then ends it: SIGTERM first. A process that exits by itself with an
// error before ready is closed has found something that a restart does not mend (a damaged file, a port in use): keep
// returns what it said. Once starting ends, nothing is started again.
func (s *supervisor) keep(ctx, starting context.Context, p process, ready <-chan struct{}) error {
	wait := minRestartPause
	for starting.Err() == nil {
		started := time.Now()
		said, err := s.runOnce(ctx, p)
		if ctx.Err() != nil {
			return nil
		}
		if said == "" && err != nil {
			said = err.Error()
		}
		exit, ended := errors.AsType[*exec.ExitError](err)
		if killed := ended && !exit.Exited(); !isClosed(ready) && !killed {
			return fmt.Errorf("%s could not start: %s", p.name, said)
		}
		s.logger.Warn("process ended; starting it again", "process", p.name, "status", fmt.Sprint(err), "said", said)
		if time.Since(started) >= shortLife {
			wait = minRestartPause
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-starting.Done():
			timer.Stop()
		case <-timer.C:
		}
		wait = min(2*wait, maxRestartPause)
	}
	return nil
}

func isClosed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

// runOnce runs a process until it ends, and returns the last line that it wrote to standard error.
func (s *supervisor) runOnce(ctx context.Context, p process) (said string, err error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return "", fmt.Errorf("folder of %s: %w", p.name, err)
	}
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return "", fmt.Errorf("log of %s: %w", p.name, err)
	}
	defer log.Close()
	before, err := log.Stat()
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, s.executable, p.args...)
	command.Stdout, command.Stderr = log, log
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = stopTimeout
	command.SysProcAttr = childAttributes()
	command.ExtraFiles = s.inherited
	err = runTied(command)
	return lastLine(log.Name(), before.Size()), err
}

// lastLine returns the last line of what was written to a file after an offset, at most 4 KiB of it.
func lastLine(name string, offset int64) string {
	data, err := os.ReadFile(name)
	if err != nil || int64(len(data)) < offset {
		return ""
	}
	data = bytes.TrimSpace(data[offset:])
	line := string(data[bytes.LastIndexByte(data, '\n')+1:])
	return strings.TrimPrefix(line[max(0, len(line)-4096):], "demsd: ")
}
