//go:build linux

package test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	readyDeadline = 60 * time.Second
	stopDeadline  = 30 * time.Second
)

// devCluster is a running `demsd dev` with its children.
type devCluster struct {
	cluster
	command *exec.Cmd
	stderr  string // its file
	ended   chan struct{}
	status  error // valid once ended is closed
}

// startDev starts a development cluster of three nodes, with more variables in its environment, and waits for its ready
// line. It is ended when the test ends.
func startDev(t *testing.T, dataDir string, environment ...string) *devCluster {
	t.Helper()
	return startDevOf(t, 3, dataDir, environment...)
}

// startDevOf starts a development cluster of that many nodes.
func startDevOf(t *testing.T, size int, dataDir string, environment ...string) *devCluster {
	t.Helper()
	return startDevWith(t, demsd(), size, dataDir, environment...)
}

// startDevWith starts a development cluster of another demsd.
func startDevWith(t *testing.T, program string, size int, dataDir string, environment ...string) *devCluster {
	t.Helper()
	c := &devCluster{cluster: newCluster(t, dataDir, size), ended: make(chan struct{})}
	c.program = program
	c.command = exec.Command(program, "dev", "--data-dir", dataDir, "--listen", "127.0.0.1:0", "--nodes", strconv.Itoa(size))
	c.command.Env = append(os.Environ(), environment...)
	stderr, err := os.CreateTemp(t.TempDir(), "stderr-")
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	c.stderr, c.command.Stderr = stderr.Name(), stderr
	stdout, err := c.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	go c.keep(stdout, ready) // ends when the process does; close waits for it
	t.Cleanup(c.close)
	select {
	case c.url = <-ready:
	case <-time.After(readyDeadline):
	}
	if c.url == "" {
		t.Fatalf("no ready line; the process wrote:\n%s", c.errors())
	}
	return c
}

// keep runs the process. Its thread lives as long as the process, because the kernel kills the process when the thread
// that started it ends: nothing may go on running when the tests are ended, however they are.
func (c *devCluster) keep(stdout io.Reader, ready chan<- string) {
	defer close(c.ended)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if c.status = c.command.Start(); c.status != nil {
		close(ready)
		return
	}
	readReadyLine(stdout, ready)
	c.status = c.command.Wait()
}

// readReadyLine sends the URL of the ready line, "" if there is none, and reads on to the end.
func readReadyLine(stdout io.Reader, ready chan<- string) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if url, found := strings.CutPrefix(lines.Text(), "ready: "); found {
			ready <- url
			break
		}
	}
	close(ready)
	_, _ = io.Copy(io.Discard, stdout)
}

// stop ends the cluster as an operator does, and returns how that went.
func (c *devCluster) stop(signal syscall.Signal) error {
	c.t.Helper()
	if err := c.command.Process.Signal(signal); err != nil {
		c.t.Fatal(err)
	}
	select {
	case <-c.ended:
	case <-time.After(stopDeadline):
		c.t.Fatalf("still running %v after %v:\n%s", stopDeadline, signal, c.errors())
	}
	return c.status
}

// powerLoss ends every process at once without a chance to say anything. The parent is stopped first, so that it cannot
// start again what dies.
func (c *devCluster) powerLoss() {
	c.t.Helper()
	if err := c.command.Process.Signal(syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	for _, pid := range c.running() {
		if pid != c.command.Process.Pid {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
		}
	}
	if err := c.command.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	<-c.ended
	c.expectNothingRuns()
}

// close ends what still runs, and prints what everything logged if the test failed.
func (c *devCluster) close() {
	select {
	case <-c.ended:
	default:
		_ = c.command.Process.Signal(syscall.SIGTERM)
		select {
		case <-c.ended:
		case <-time.After(stopDeadline):
			c.t.Errorf("still running %v after SIGTERM", stopDeadline)
			c.powerLoss()
		}
	}
	if !c.t.Failed() {
		return
	}
	c.t.Logf("demsd dev:\n%s", c.errors())
	c.showLogs()
}

// errors returns the end of what the parent wrote to standard error.
func (c *devCluster) errors() string { return tail(c.stderr) }
