//go:build linux

package test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dems/internal/conformance"
)

// cluster is processes that serve one data folder, and a front end that clients reach. Whoever started them ends them.
type cluster struct {
	t       *testing.T
	dataDir string
	nodes   []string // their names
	program string   // what the processes run; "": the demsd of this source
	url     string   // of the front end
	client  *http.Client
}

// newCluster returns the cluster of that many nodes, none of which runs.
func newCluster(t *testing.T, dataDir string, size int) cluster {
	return cluster{t: t, dataDir: dataDir, nodes: nodeNames(size), client: newClient(t)}
}

// nodeNames returns n1, n2 and so on.
func nodeNames(size int) []string {
	names := make([]string, size)
	for i := range names {
		names[i] = "n" + strconv.Itoa(i+1)
	}
	return names
}

// processes returns the names of a cluster's processes: the folders that hold their pid files and logs.
func (c *cluster) processes() []string { return append(slices.Clone(c.nodes), "fe1") }

// showLogs prints the end of what every process logged.
func (c *cluster) showLogs() {
	for _, name := range c.processes() {
		c.t.Logf("%s:\n%s", name, tail(filepath.Join(c.dataDir, name, "log")))
	}
}

// newClient returns an HTTP client with connections of its own, for many requests at once.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConns: 100, MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (c *cluster) rest() conformance.REST {
	return conformance.REST{BaseURL: c.url, Client: c.client}
}

// must does an operation that has to succeed and returns its body.
func (c *cluster) must(as string, operation conformance.Operation) map[string]any {
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
func (c *cluster) get(path string) (int, []byte, error) {
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

func (c *cluster) clusterStatus() (clusterStatus, error) {
	var status clusterStatus
	return status, c.decode("/v1/cluster", &status)
}

// decode reads a page of the front end that is JSON.
func (c *cluster) decode(path string, into any) error {
	code, body, err := c.get(path)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status %d: %s", code, body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// waitEqual waits until every node is a healthy voter, and all have applied the same and have the same digest.
func (c *cluster) waitEqual(within time.Duration) clusterStatus {
	c.t.Helper()
	var status clusterStatus
	eventually(c.t, within, "all nodes healthy and equal", func() (err error) {
		if status, err = c.clusterStatus(); err != nil {
			return err
		}
		if len(status.Nodes) != len(c.nodes) || !slices.Contains(c.nodes, status.Leader) {
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
func (c *cluster) leader() string {
	c.t.Helper()
	return c.waitEqual(20 * time.Second).Leader
}

// follower returns the name of a node that does not lead.
func (c *cluster) follower() string {
	c.t.Helper()
	leader := c.leader()
	return c.nodes[(slices.Index(c.nodes, leader)+1)%len(c.nodes)]
}

// pid returns the process ID of a child, 0 if it is not running. A pid file may outlive its process, and the number may
// belong to a stranger by now, so the program and its arguments have to be ours.
func (c *cluster) pid(name string) int {
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
func (c *cluster) owns(pid int) bool {
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	program, err := os.Readlink(filepath.Join(folder, "exe"))
	if err != nil || program != cmp.Or(c.program, demsd()) {
		return false
	}
	arguments, err := os.ReadFile(filepath.Join(folder, "cmdline"))
	return err == nil && strings.Contains(string(arguments), c.dataDir)
}

// running returns the IDs of all processes of this cluster, from the process table and not from the pid files.
func (c *cluster) running() []int {
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
func (c *cluster) signal(name string, signal syscall.Signal) int {
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
func (c *cluster) waitRestarted(name string, before int, within time.Duration) {
	c.t.Helper()
	eventually(c.t, within, name+" restarted", func() error {
		if pid := c.pid(name); pid == 0 || pid == before {
			return fmt.Errorf("process %d", pid)
		}
		return nil
	})
}

func (c *cluster) expectNothingRuns() {
	c.t.Helper()
	eventually(c.t, 10*time.Second, "no process left", func() error {
		if left := c.running(); len(left) > 0 {
			return fmt.Errorf("processes %v", left)
		}
		return nil
	})
}

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
