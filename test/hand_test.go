//go:build linux

package test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dems/transport"
)

// child is a process of demsd that the tests started. Its output goes to the file log in a folder.
type child struct {
	command *exec.Cmd
	ended   chan struct{}
}

// startChild starts demsd, or what becomes it. The thread that starts it lives as long as it does; see devCluster.keep.
func startChild(t *testing.T, folder string, environment []string, arguments ...string) *child {
	t.Helper()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &child{command: exec.Command(arguments[0], arguments[1:]...), ended: make(chan struct{})}
	p.command.Env = append(os.Environ(), environment...)
	p.command.Stdout, p.command.Stderr = log, log
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.command.Start()
		started <- err
		if err == nil {
			_ = p.command.Wait() // how it ends is the test's business, and often SIGKILL
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return p
}

// end sends a signal and waits until the process has ended.
func (p *child) end(signal syscall.Signal) error {
	_ = p.command.Process.Signal(syscall.SIGCONT) // it may be stopped; it may have ended
	_ = p.command.Process.Signal(signal)
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopDeadline):
		_ = p.command.Process.Kill()
		<-p.ended
		return fmt.Errorf("still running %v after %v", stopDeadline, signal)
	}
}

// handCluster is a cluster whose processes were started one by one, as an operator does, and stay dead when they die.
type handCluster struct {
	cluster
	links       *links
	environment []string
	addresses   map[string]string // where each node listens
	disks       bool              // each node has a disk of its own
	programs    map[string]string // what each process runs, where it is not the demsd of this source

	mu       sync.Mutex
	children map[string]*child
}

// startLinked starts nodes and a front end that are connected by links.
func startLinked(t *testing.T, size int, environment ...string) *handCluster {
	t.Helper()
	c := &handCluster{cluster: newCluster(t, t.TempDir(), size), environment: environment}
	c.startAll()
	return c
}

// startOnDisks starts nodes that each have a disk of their own, and a front end, all connected by links.
func startOnDisks(t *testing.T, size int, environment ...string) *handCluster {
	t.Helper()
	c := &handCluster{cluster: newCluster(t, t.TempDir(), size), environment: environment, disks: true}
	for _, name := range c.nodes {
		if err := makeDisk(c.image(name)); err != nil {
			t.Fatal(err)
		}
	}
	c.startAll()
	return c
}

// image is the file that holds a node's disk.
func (c *handCluster) image(name string) string { return filepath.Join(c.dataDir, name+".image") }

func (c *handCluster) startAll() {
	t := c.t
	t.Helper()
	c.children, c.addresses = map[string]*child{}, map[string]string{}
	if err := transport.CreateAuthority(c.pki()); err != nil {
		t.Fatal(err)
	}
	for _, name := range c.nodes {
		c.addresses[name] = freeUDPAddress(t)
	}
	c.links = newLinks(t, c.addresses)
	t.Cleanup(c.close)
	for _, name := range c.nodes {
		c.issue(transport.RoleNode, name)
		c.start(name)
	}
	c.issue(transport.RoleFrontEnd, "fe1")
	c.url = "http://" + freeTCPAddress(t)
	c.start("fe1")
	c.waitHealthy(readyDeadline)
}

// freeUDPAddress returns an address that nobody listens on.
func freeUDPAddress(t *testing.T) string {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	return socket.LocalAddr().String()
}

func freeTCPAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// pki is the folder with the certificates.
func (c *cluster) pki() string { return filepath.Join(c.dataDir, "pki") }

func (c *cluster) issue(role transport.Role, name string) {
	c.t.Helper()
	if err := transport.Issue(c.pki(), role, name); err != nil {
		c.t.Fatal(err)
	}
}

// start starts a node or the front end.
func (c *handCluster) start(name string) {
	c.t.Helper()
	folder := filepath.Join(c.dataDir, name)
	reach := make([]string, len(c.nodes)) // where everybody reaches each node
	for i, node := range c.nodes {
		reach[i] = c.links.address(node)
	}
	args := []string{"frontend", "--id", name, "--listen", strings.TrimPrefix(c.url, "http://"), "--nodes", strings.Join(reach, ","),
		"--pid-dir", folder, "--pki-dir", c.pki(), "--enable-faults"}
	if address, isNode := c.addresses[name]; isNode {
		for i, node := range c.nodes {
			reach[i] = node + "=" + reach[i]
		}
		args = []string{"node", "--id", name, "--data-dir", folder, "--listen", address, "--peers", strings.Join(reach, ","),
			"--pki-dir", c.pki(), "--enable-faults"}
	}
	program := demsd()
	if other, found := c.programs[name]; found {
		program = other
	}
	command := append([]string{program}, args...)
	if _, isNode := c.addresses[name]; isNode && c.disks {
		command = append(slices.Concat(onDisk, []string{c.image(name), folder}), command...)
	}
	started := startChild(c.t, folder, c.environment, command...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.children[name] = started
}

// child returns a process that was started.
func (c *handCluster) child(name string) *child {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.children[name]
}

// suspend stops a process without ending it, until the returned function is called.
func (c *handCluster) suspend(name string) (resume func()) {
	c.t.Helper()
	p := c.child(name).command.Process
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	return func() { _ = p.Signal(syscall.SIGCONT) } // it may have ended
}

// kill ends a process at once; it stays dead until start.
func (c *handCluster) kill(name string) {
	c.t.Helper()
	if err := c.child(name).end(syscall.SIGKILL); err != nil {
		c.t.Error(err)
	}
}

// close ends what still runs, the front end first, and shows the logs if the test failed.
func (c *handCluster) close() {
	c.links.heal() // nodes hand leadership over as they end
	for _, name := range append([]string{"fe1"}, c.nodes...) {
		if p := c.child(name); p != nil {
			if err := p.end(syscall.SIGTERM); err != nil {
				c.t.Errorf("%s: %v", name, err)
			}
		}
	}
	if c.t.Failed() {
		c.showLogs()
	}
}

// startFrontEnd starts another front end of a cluster and returns what clients reach it by. It is ended with the test.
func (c *cluster) startFrontEnd(name string) *cluster {
	c.t.Helper()
	c.issue(transport.RoleFrontEnd, name)
	folder := filepath.Join(c.dataDir, name)
	other := &cluster{t: c.t, dataDir: c.dataDir, nodes: c.nodes, url: "http://" + freeTCPAddress(c.t), client: c.client}
	started := startChild(c.t, folder, nil, demsd(), "frontend", "--id", name, "--listen", strings.TrimPrefix(other.url, "http://"),
		"--nodes", strings.Join(c.nodeAddresses(), ","), "--pid-dir", folder, "--pki-dir", c.pki(), "--enable-faults")
	c.t.Cleanup(func() {
		if err := started.end(syscall.SIGTERM); err != nil {
			c.t.Errorf("%s: %v", name, err)
		}
		if c.t.Failed() {
			c.t.Logf("%s:\n%s", name, tail(filepath.Join(folder, "log")))
		}
	})
	other.waitHealthy(readyDeadline)
	return other
}

// nodeAddresses returns where the registry says that the nodes are, in the order of their names.
func (c *cluster) nodeAddresses() []string {
	c.t.Helper()
	var addresses []string
	eventually(c.t, 20*time.Second, "all nodes are registered", func() error {
		var registry struct {
			Nodes []struct{ ID, Address string }
		}
		if err := c.decode("/v1/registry", &registry); err != nil {
			return err
		}
		addresses = addresses[:0]
		for _, name := range c.nodes {
			for _, n := range registry.Nodes {
				if n.ID == name {
					addresses = append(addresses, n.Address)
				}
			}
		}
		if len(addresses) != len(c.nodes) {
			return errors.New("only " + strings.Join(addresses, ", "))
		}
		return nil
	})
	return addresses
}
