//go:build linux

package test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"dems/internal/conformance"
)

// TestNodesHangUnderLoad stops a follower, and then the leader, without ending it: no request fails, and when the node goes
// on it catches up and is a healthy voter as before.
func TestNodesHangUnderLoad(t *testing.T) {
	c := startDev(t, t.TempDir())
	l := newLoad(c)
	l.start(t)
	l.waitFor(t, 200)
	for _, hang := range []struct {
		what   string
		victim func() string
	}{{"follower", c.follower}, {"leader", c.leader}} {
		victim := hang.victim()
		l.pause()
		begin := time.Now()
		resume := c.suspend(victim)
		c.waitDown(victim)
		l.waitFor(t, 500)
		slowest, hanging := l.pause(), time.Since(begin)
		resume()
		begin = time.Now()
		c.waitHealthy(20 * time.Second)
		t.Logf("%s (%s) hanging for %v: slowest request %v; healthy %v after it went on", hang.what, victim,
			hanging.Round(time.Millisecond), slowest.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	}
	if err := l.finish(); err != nil {
		t.Errorf("requests failed: %v", err)
	}
	l.settle(t)
	l.verify(t)
	for _, n := range c.waitEqual(20 * time.Second).Nodes {
		if n.Incarnation != 1 {
			t.Errorf("%s has incarnation %d: it was punished for being late", n.ID, n.Incarnation)
		}
	}
	c.expectEqualCityLogs()
}

// waitDown waits until the front end says that a node does not answer.
func (c *cluster) waitDown(name string) {
	c.t.Helper()
	eventually(c.t, 20*time.Second, name+" counts as down", func() error {
		status, err := c.clusterStatus()
		if err != nil {
			return err
		}
		for _, n := range status.Nodes {
			if n.ID == name && n.State != "healthy" {
				return nil
			}
		}
		return fmt.Errorf("%+v", status)
	})
}

// suspend stops a child without ending it, until the returned function is called or the test ends.
func (c *cluster) suspend(name string) (resume func()) {
	c.t.Helper()
	pid := c.signal(name, syscall.SIGSTOP)
	resume = func() {
		if c.owns(pid) {
			_ = syscall.Kill(pid, syscall.SIGCONT) // it may have ended
		}
	}
	c.t.Cleanup(resume)
	return resume
}

// TestMajorityGone stops two of three nodes: every request is answered in bounded time, with unavailable or indeterminate
// and never with a result; when the nodes go on, so does the service.
func TestMajorityGone(t *testing.T) {
	t.Parallel()
	c := startDev(t, t.TempDir())
	c.must("TORM0001", conformance.Operation{"op": "addEvent", "eventID": "TORM100519", "eventType": "seminar", "capacity": 5})
	leader := c.leader()
	var resume []func()
	for _, node := range c.nodes {
		if node != leader {
			resume = append(resume, c.suspend(node))
		}
	}
	book := conformance.Operation{
		"op": "bookEvent", "customerID": "TORC0001", "eventID": "TORM100519", "eventType": "seminar", "key": "majority-gone",
	}
	for _, operation := range []conformance.Operation{
		book, {"op": "getBookingSchedule", "customerID": "TORC0001"},
		{"op": "bookEvent", "customerID": "TORC0001", "eventID": "TORM100519", "eventType": "party"}, // refused without asking anybody
	} {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), attemptDeadline)
		answer, err := c.rest().Do(ctx, "TORC0001", operation)
		cancel()
		if err != nil {
			t.Fatalf("%v: %v", operation, err)
		}
		code := answer.Body.(map[string]any)["code"]
		t.Logf("%v: %d %v after %v", operation["op"], answer.Status, code, time.Since(begin).Round(time.Millisecond))
		want := []any{"unavailable", "indeterminate"}
		switch {
		case operation["eventType"] == "party":
			want = []any{"invalid_event_type"}
		case operation["op"] == "getBookingSchedule":
			want = []any{"unavailable"}
		}
		if !slices.Contains(want, code) {
			t.Errorf("%v: %+v, want one of %v", operation, answer, want)
		}
	}
	c.expectPage("/livez", http.StatusOK)
	c.expectPage("/readyz", http.StatusServiceUnavailable)
	for _, function := range resume {
		function()
	}
	begin := time.Now()
	c.expectPage("/readyz", http.StatusOK)
	c.must("TORC0001", book)
	t.Logf("in service again after %v", time.Since(begin).Round(time.Millisecond))
	c.waitEqual(20 * time.Second)
	schedule := c.must("TORC0001", conformance.Operation{"op": "getBookingSchedule", "customerID": "TORC0001"})
	if bookings := schedule["bookings"].([]any); len(bookings) != 1 {
		t.Errorf("bookings: %v", bookings)
	}
}

// expectPage waits until a page of the front end has a status.
func (c *cluster) expectPage(path string, want int) {
	c.t.Helper()
	eventually(c.t, 20*time.Second, path, func() error {
		status, body, err := c.get(path)
		if err == nil && status != want {
			err = fmt.Errorf("status %d: %s", status, body)
		}
		return err
	})
}
