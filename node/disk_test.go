package node_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dems"
	"dems/internal/cluster"
)

// expectFull waits until a node has stopped because its disk is full.
func expectFull(t *testing.T, member *cluster.Member, what string) {
	t.Helper()
	err := member.Err()
	if err == nil || !strings.Contains(err.Error(), "write "+what) ||
		!strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), "free space and start the node again") {
		t.Fatalf("%v", err)
	}
	if _, err := member.Query(t.Context(), dems.QueryBatch{}); kind(t, err) != dems.NotReady {
		t.Errorf("a stopped node answers: %v", err)
	}
}

// TestDiskFullOfRaftLog gives the leader a disk of 1 MiB. It has to stop when that is full, the others go on, and with
// space it comes back. Mounting needs root; for others TestDiskFullOfCityLog remains, which needs nothing.
func TestDiskFullOfRaftLog(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Config{})
	for _, id := range c.IDs() {
		if err := os.Mkdir(c.Dir(id), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", c.Dir(id), "tmpfs", 0, "size=1m"); err != nil {
			if os.Getuid() == 0 {
				t.Logf("root, but mounting is not permitted: %v", err)
			}
			t.Skip("a small disk needs the right to mount")
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(c.Dir(id), syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	for _, id := range c.IDs() {
		c.StartNode(id)
	}
	c.WaitReady("n1")
	leader := c.WaitLeader()
	for _, id := range others(c, leader) { // these have space
		if err := syscall.Mount("", c.Dir(id), "", syscall.MS_REMOUNT, "size=64m"); err != nil {
			t.Fatal(err)
		}
	}
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 10_000)))
	full := c.Node(leader)
	number := 1
	for stopped := false; !stopped; {
		number++
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, _ = c.Replica(leader).Propose(ctx, batch(number, bookings(number, dems.MaxBatchCommands)...))
		cancel()
		select {
		case <-full.Done():
			stopped = true
		default:
			if number > 1000 {
				t.Fatal("the disk does not become full")
			}
		}
	}
	expectFull(t, full, "")
	_ = c.DropNode(leader)
	c.Propose(batch(number, bookings(number, dems.MaxBatchCommands)...)) // again: it may or may not be in the log
	if err := syscall.Mount("", c.Dir(leader), "", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	c.StartNode(leader)
	c.WaitReady(leader)
	c.WaitEqual()
}

// TestDiskFullOfCityLog lets every write to one city log fail as a full disk does.
func TestDiskFullOfCityLog(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Config{})
	path := filepath.Join(c.Dir("n1"), "logs", "MTL.log")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	for _, id := range c.IDs() {
		c.StartNode(id)
	}
	for _, id := range c.IDs() {
		c.WaitReady(id)
	}
	full := c.Node("n1")
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 10)))
	expectFull(t, full, "city log")
	_ = c.DropNode("n1")
	c.Propose(batch(2, book("MTL", 1)))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c.StartNode("n1")
	c.WaitReady("n1")
	c.WaitEqual()
}
