//go:build linux

package test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dems/internal/conformance"
)

const (
	readyDeadline = 60 * time.Second
	stopDeadline  = 30 * time.Second
)

// processes are the names of a development cluster's processes: the folders that hold their pid files.
var processes = []string{"n1", "n2", "n3", "fe1"}

var nodes = processes[:3]

// devCluster is a running `demsd dev` with its children.
type devCluster struct {
	t       *testing.T
	dataDir string
	url     string
	command *exec.Cmd
	stderr  string // its file
	ended   chan struct{}
	status  error // valid once ended is closed
	client  *http.Client
}

// startDev starts a development cluster, with more variables in its environment, and waits for its ready line. It is ended
// when the test ends.
func startDev(t *testing.T, dataDir string, environment ...string) *devCluster {
	t.Helper()
	c := &devCluster{t: t, dataDir: dataDir, ended: make(chan struct{}), client: newClient(t)}
	c.command = exec.Command(demsd(), "dev", "--data-dir", dataDir, "--listen", "127.0.0.1:0")
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

// newClient returns an HTTP client with connections of its own, for many requests at once.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConns: 100, MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (c *devCluster) rest() conformance.REST {
	return conformance.REST{BaseURL: c.url, Client: c.client}
}

// must does an operation that has to succeed and returns its body.
func (c *devCluster) must(as string, operation conformance.Operation) map[string]any {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), stopDeadline)
	defer cancel()
	answer, err := c.rest().Do(ctx, as, operation)
	if err != nil || answer.Status >= 300 {
		c.t.Fatalf("%v by %s: %+v, %v", operation, as, answer, err)
	}
	return answer.Body.(map[string]any)
}

// clusterStatus is what /v1/cluster tells.
type clusterStatus struct {
	Leader string
	Term   uint64
	Nodes  []struct {
		ID          string
		Incarnation uint64
		State       string
		Suffrage    string
		Applied     uint64
		Digest      string
	}
}

// get reads a page of the front end.
func (c *devCluster) get(path string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return 0, nil, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

func (c *devCluster) clusterStatus() (clusterStatus, error) {
	var status clusterStatus
	code, body, err := c.get("/v1/cluster")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status %d: %s", code, body)
	}
	return status, errors.Join(err, json.Unmarshal(body, &status))
}

// waitEqual waits until every node is a healthy voter, and all have applied the same and have the same digest.
func (c *devCluster) waitEqual(within time.Duration) clusterStatus {
	c.t.Helper()
	var status clusterStatus
	eventually(c.t, within, "all nodes healthy and equal", func() (err error) {
		if status, err = c.clusterStatus(); err != nil {
			return err
		}
		if len(status.Nodes) != len(nodes) || !slices.Contains(nodes, status.Leader) {
			return fmt.Errorf("%+v", status)
		}
		first := status.Nodes[0]
		for _, n := range status.Nodes {
			if n.State != "healthy" || n.Suffrage != "voter" || n.Applied != first.Applied || n.Digest != first.Digest {
				return fmt.Errorf("%+v", status)
			}
		}
		return nil
	})
	return status
}

// leader returns the name of the leading node.
func (c *devCluster) leader() string {
	c.t.Helper()
	return c.waitEqual(20 * time.Second).Leader
}

// follower returns the name of a node that does not lead.
func (c *devCluster) follower() string {
	c.t.Helper()
	leader := c.leader()
	return nodes[(slices.Index(nodes, leader)+1)%len(nodes)]
}

// pid returns the process ID of a child, 0 if it is not running. A pid file may outlive its process, and the number may
// belong to a stranger by now, so the program and its arguments have to be ours.
func (c *devCluster) pid(name string) int {
	data, err := os.ReadFile(filepath.Join(c.dataDir, name, "pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || !c.owns(pid) {
		return 0
	}
	return pid
}

// owns tells whether a process is a living child of this cluster.
func (c *devCluster) owns(pid int) bool {
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	program, err := os.Readlink(filepath.Join(folder, "exe"))
	if err != nil || program != demsd() {
		return false
	}
	arguments, err := os.ReadFile(filepath.Join(folder, "cmdline"))
	return err == nil && strings.Contains(string(arguments), c.dataDir)
}

// running returns the IDs of all processes of this cluster, from the process table and not from the pid files.
func (c *devCluster) running() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		c.t.Fatal(err)
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && c.owns(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// signal sends a signal to a child, which has to be running, and returns its process ID.
func (c *devCluster) signal(name string, signal syscall.Signal) int {
	c.t.Helper()
	var pid int
	eventually(c.t, 10*time.Second, name+" runs", func() error {
		if pid = c.pid(name); pid == 0 {
			return errors.New("no such process")
		}
		return nil
	})
	if err := syscall.Kill(pid, signal); err != nil {
		c.t.Fatalf("signal %v to %s: %v", signal, name, err)
	}
	return pid
}

// waitRestarted waits until a child runs as another process than before.
func (c *devCluster) waitRestarted(name string, before int, within time.Duration) {
	c.t.Helper()
	eventually(c.t, within, name+" restarted", func() error {
		if pid := c.pid(name); pid == 0 || pid == before {
			return fmt.Errorf("process %d", pid)
		}
		return nil
	})
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

func (c *devCluster) expectNothingRuns() {
	c.t.Helper()
	eventually(c.t, 10*time.Second, "no process left", func() error {
		if left := c.running(); len(left) > 0 {
			return fmt.Errorf("processes %v", left)
		}
		return nil
	})
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
	for _, name := range processes {
		c.t.Logf("%s:\n%s", name, tail(filepath.Join(c.dataDir, name, "log")))
	}
}

// errors returns the end of what the parent wrote to standard error.
func (c *devCluster) errors() string { return tail(c.stderr) }

// tail returns the last lines of a file.
func tail(name string) string {
	const lines = 60
	data, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
