//go:build linux

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// programs is the folder with demsd and demsctl, built once for all tests.
var programs string

func TestMain(m *testing.M) {
	status, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func buildAndRun(m *testing.M) (status int, err error) {
	if programs, err = os.MkdirTemp("", "dems-programs-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(programs)) }()
	if err := os.Chmod(programs, 0o755); err != nil { // one test runs demsd as another user
		return 1, err
	}
	build := exec.Command("go", "build", "-o", programs, "dems/cmd/demsd", "dems/cmd/demsctl")
	if output, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, output)
	}
	return m.Run(), nil
}

func demsd() string   { return filepath.Join(programs, "demsd") }
func demsctl() string { return filepath.Join(programs, "demsctl") }

// outcome is what a program did that has ended.
type outcome struct {
	status         int
	stdout, stderr string
}

func (o outcome) String() string {
	return fmt.Sprintf("exit status %d\nstandard output:\n%s\nstandard error:\n%s", o.status, o.stdout, o.stderr)
}

// programDeadline is how long a program may take that is expected to end by itself.
const programDeadline = time.Minute

// runProgram runs a program to its end.
func runProgram(t *testing.T, path string, args ...string) outcome {
	t.Helper()
	return runCommand(t, func(ctx context.Context) *exec.Cmd { return exec.CommandContext(ctx, path, args...) })
}

func runCommand(t *testing.T, make func(context.Context) *exec.Cmd) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), programDeadline)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := make(ctx)
	command.Stdout, command.Stderr = &stdout, &stderr
	command.WaitDelay = time.Second
	err := command.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s did not end by itself\n%s%s", strings.Join(command.Args, " "), stdout.String(), stderr.String())
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return outcome{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// eventually calls a condition until it returns nil, and fails the test if that takes too long.
func eventually(t *testing.T, within time.Duration, what string, condition func() error) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
	}
}
