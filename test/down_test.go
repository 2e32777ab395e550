//go:build linux

package test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// keepDown kills a node and sees to it that it cannot start again until the returned function is called.
func (c *cluster) keepDown(name string) (allow func()) {
	c.t.Helper()
	marker := filepath.Join(c.dataDir, name, "node.json")
	hidden := marker + ".hidden"
	if err := os.Rename(marker, hidden); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Mkdir(marker, 0o700); err != nil {
		c.t.Fatal(err)
	}
	c.signal(name, syscall.SIGKILL)
	return func() {
		if err := os.Remove(marker); err != nil {
			c.t.Error(err)
		}
		if err := os.Rename(hidden, marker); err != nil {
			c.t.Error(err)
		}
	}
}

// TestOneNodeDown leaves a follower dead for a while: the others go on without it, with the same leader. Meanwhile the log
// is cut behind snapshots, so the node has to be sent a snapshot when it is back, and the city logs that it missed.
func TestOneNodeDown(t *testing.T) {
	c := startDev(t, t.TempDir(), "DEMSD_SNAPSHOT_INTERVAL=200ms", "DEMSD_SNAPSHOT_THRESHOLD=100", "DEMSD_TRAILING_LOGS=50")
	before := c.waitEqual(20 * time.Second)
	victim := c.follower()
	l := newLoad(c)
	l.start(t)
	l.waitFor(t, 200)
	allow := c.keepDown(victim)
	const down = 8 * time.Second // longer than every timeout between servers but one
	begin := time.Now()
	for time.Since(begin) < down {
		l.waitFor(t, 100)
	}
	if err := l.finish(); err != nil {
		t.Errorf("requests failed: %v", err)
	}
	t.Logf("slowest request with %s down for %v: %v", victim, down, l.pause().Round(time.Millisecond))
	if after, err := c.clusterStatus(); err != nil || after.Leader != before.Leader || after.Term != before.Term {
		t.Errorf("leader %s in term %d, before it was %s in term %d; %v", after.Leader, after.Term, before.Leader, before.Term, err)
	}
	for _, n := range before.Nodes {
		if n.ID == victim && n.Applied == 0 {
			t.Errorf("%s had applied nothing before", victim)
		}
	}
	allow()
	begin = time.Now()
	c.waitEqual(30 * time.Second)
	t.Logf("equal again %v after it was allowed to start", time.Since(begin).Round(time.Millisecond))
	if len(snapshots(c.dataDir, victim)) == 0 {
		t.Errorf("%s has no snapshot", victim)
	}
	l.settle(t)
	l.verify(t)
	c.expectEqualCityLogs()
}
