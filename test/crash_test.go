//go:build linux

package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"dems"
	"dems/internal/conformance"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	c := startDev(t, t.TempDir())
	conformance.Run(t, c.rest())
	c.waitEqual(10 * time.Second)
	c.expectEqualCityLogs()
	if err := c.stop(syscall.SIGTERM); err != nil {
		t.Errorf("ended with %v", err)
	}
}

// TestPowerLoss ends every process at once under load, twice, and starts the cluster again on the same folder: nothing
// acknowledged is lost, and nothing that is sent again happens twice.
func TestPowerLoss(t *testing.T) {
	dataDir := t.TempDir()
	c := startDev(t, dataDir)
	l := newLoad(c)
	for round := range 2 {
		l.start(t)
		l.waitFor(t, 1000)
		c.powerLoss()
		failed := l.finish()
		if failed == nil {
			t.Fatal("the load did not notice that the cluster is gone")
		}
		begin := time.Now()
		c = startDev(t, dataDir)
		t.Logf("round %d: %d requests acknowledged so far, up again after %v", round+1, l.done.Load(), time.Since(begin).Round(time.Millisecond))
		l.use(c)
		t.Logf("%d requests were open", l.settle(t))
		l.verify(t)
		l.replay(t)
	}
	c.waitEqual(10 * time.Second)
	c.expectEqualCityLogs()
}

// TestNodesDieUnderLoad kills a follower, then the leader, then tells the leader to end, then kills both followers one
// after the other: no request fails, the slowest tells how long the pause was.
func TestNodesDieUnderLoad(t *testing.T) {
	c := startDev(t, t.TempDir())
	l := newLoad(c)
	l.start(t)
	l.waitFor(t, 500)
	t.Logf("slowest request without any failure: %v", l.pause())
	for _, failure := range []struct {
		what   string
		victim func() string
		signal syscall.Signal
	}{
		{"follower killed", c.follower, syscall.SIGKILL},
		{"leader killed", c.leader, syscall.SIGKILL},
		{"leader told to end", c.leader, syscall.SIGTERM},
		{"another follower killed", c.follower, syscall.SIGKILL},
	} {
		victim := failure.victim()
		l.pause()
		begin := time.Now()
		before := c.signal(victim, failure.signal)
		c.waitRestarted(victim, before, 10*time.Second)
		restarted := time.Since(begin)
		l.waitFor(t, 500)
		c.waitHealthy(20 * time.Second)
		t.Logf("%s (%s): restarted after %v, healthy after %v, slowest request %v", failure.what, victim,
			restarted.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond), l.pause().Round(time.Millisecond))
		if failures := l.failures.Load(); failures > 0 {
			t.Errorf("%s: %d requests failed: %v", failure.what, failures, l.finish())
			break
		}
	}
	if err := l.finish(); err != nil {
		t.Errorf("requests failed: %v", err)
	}
	l.settle(t)
	l.verify(t)
	c.waitEqual(10 * time.Second)
	c.expectEqualCityLogs()
	t.Logf("%d requests acknowledged", l.done.Load())
}

// waitHealthy waits until every node is healthy; under load their indexes differ from moment to moment.
func (c *cluster) waitHealthy(within time.Duration) {
	c.t.Helper()
	eventually(c.t, within, "all nodes healthy", func() error {
		status, err := c.clusterStatus()
		if err != nil {
			return err
		}
		healthy := 0
		for _, n := range status.Nodes {
			if n.State == "healthy" && n.Suffrage == "voter" {
				healthy++
			}
		}
		if healthy != len(c.nodes) || status.Leader == "" {
			return fmt.Errorf("%+v", status)
		}
		return nil
	})
}

// TestFrontEndDies kills the front end: it is started again at the same address and knows everything.
func TestFrontEndDies(t *testing.T) {
	t.Parallel()
	c := startDev(t, t.TempDir())
	c.must("TORM0001", conformance.Operation{"op": "addEvent", "eventID": "TORM100519", "eventType": "seminar", "capacity": 2})
	c.must("MTLC0001", conformance.Operation{"op": "bookEvent", "customerID": "MTLC0001", "eventID": "TORM100519", "eventType": "seminar", "key": "k"})
	before := c.signal("fe1", syscall.SIGKILL)
	c.waitRestarted("fe1", before, 10*time.Second)
	c.waitEqual(20 * time.Second)
	ctx := t.Context()
	again, err := c.rest().Do(ctx, "MTLC0001", conformance.Operation{
		"op": "bookEvent", "customerID": "MTLC0001", "eventID": "TORM100519", "eventType": "seminar", "key": "k",
	})
	if err != nil || again.Status != 201 || !again.Replayed {
		t.Errorf("the same key again: %+v, %v", again, err)
	}
	schedule := c.must("MTLC0001", conformance.Operation{"op": "getBookingSchedule", "customerID": "MTLC0001"})
	if bookings := schedule["bookings"].([]any); len(bookings) != 1 {
		t.Errorf("bookings: %v", bookings)
	}
}

// TestStop ends a cluster in each of the ways that it can be ended: nothing is left running, and the folder can be used
// again.
func TestStop(t *testing.T) {
	t.Parallel()
	dataDir := t.TempDir()
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT} {
		c := startDev(t, dataDir)
		if running := c.running(); len(running) != 5 {
			t.Errorf("processes %v, want the parent, three nodes and a front end", running)
		}
		begin := time.Now()
		err := c.stop(signal)
		if killed := signal == syscall.SIGKILL; (err != nil) != killed {
			t.Errorf("%v: ended with %v\n%s", signal, err, c.errors())
		}
		c.expectNothingRuns()
		t.Logf("%v: over after %v", signal, time.Since(begin).Round(time.Millisecond))
		for _, name := range c.processes() {
			if _, err := os.Stat(filepath.Join(dataDir, name, "pid")); err == nil && signal != syscall.SIGKILL {
				t.Errorf("%v: %s left its pid file", signal, name)
			}
		}
	}
}

// cityRecord is the part of a city log record that tells whether it was ordered: reads are not.
type cityRecord struct {
	Op     string `json:"op"`
	Time   string `json:"time"`
	Seq    uint64 `json:"seq"`
	By     string `json:"by"`
	Status string `json:"status"`
}

// orderedRecords returns the records of ordered operations in a city log, as they stand there.
func (c *cluster) orderedRecords(node string, city dems.City) []byte {
	c.t.Helper()
	name := filepath.Join(c.dataDir, node, "logs", city.String()+".log")
	data, err := os.ReadFile(name)
	if err != nil {
		c.t.Fatal(err)
	}
	var ordered []byte
	last := uint64(0)
	for line := range bytes.Lines(data) {
		var record cityRecord
		if err := json.Unmarshal(line, &record); err != nil || record.Time == "" || record.By == "" || record.Status == "" {
			c.t.Fatalf("%s: %q: %v", name, line, err)
		}
		op, known := dems.ParseOp(record.Op)
		if !known {
			c.t.Fatalf("%s: %q: unknown operation", name, line)
		}
		if !op.Mutates() {
			continue
		}
		if record.Seq < last {
			c.t.Errorf("%s: record %d after record %d", name, record.Seq, last)
		}
		last = record.Seq
		ordered = append(ordered, line...)
	}
	return ordered
}

// expectEqualCityLogs compares the ordered records of every city on all nodes, byte for byte. Nodes write them soon after
// they answer, so the comparison may need a moment.
func (c *cluster) expectEqualCityLogs() {
	c.t.Helper()
	for _, named := range dems.DefaultCities() {
		eventually(c.t, 10*time.Second, "equal logs of "+named.Name, func() error {
			first := c.orderedRecords(c.nodes[0], named.City)
			if len(first) == 0 && named.City == (dems.City{'T', 'O', 'R'}) {
				return fmt.Errorf("no records")
			}
			for _, node := range c.nodes[1:] {
				if other := c.orderedRecords(node, named.City); !bytes.Equal(first, other) {
					return fmt.Errorf("%s has %d bytes, %s %d; they differ from byte %d on",
						c.nodes[0], len(first), node, len(other), commonPrefix(first, other))
				}
			}
			return nil
		})
	}
}

func commonPrefix(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
