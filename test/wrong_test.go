//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	generator "dems/client/load"
	"dems/internal/conformance"
)

// What docs/reliability.md claims of a wrong node.
const (
	longestSearch      = 100 * time.Millisecond // from the fault to the conviction, under load
	longestReplacement = 2 * time.Second        // from the fault until it is a voter again
	mostSlowdown       = 3                      // times the quiet p99
)

// preload makes bookings, in events and by customers of its own.
func (c *cluster) preload(bookings uint64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	report, err := generator.Run(ctx, generator.Config{
		Endpoints: []string{c.url}, Connections: 64, Duration: time.Minute, Operations: bookings, Events: 50,
		Customers: firstWritersCustomer, Keep: true, WithoutKeys: true,
	})
	if err != nil || report.Operations != bookings {
		c.t.Fatalf("preloading %d bookings: %+v, %v", bookings, report, err)
	}
}

// story is when the steps of a replacement were first seen from outside. The times that incidents carry are log time, which
// stands still between entries.
type story map[string]time.Time

// waitReplaced waits until a node was convicted, has left, and votes again as another incarnation.
func (c *cluster) waitReplaced(node string, after uint64, within time.Duration) story {
	c.t.Helper()
	seen := story{}
	var kinds []string
	eventually(c.t, within, node+" is replaced", func() error {
		all, err := c.incidents(after + 1)
		for _, i := range all {
			if _, known := seen[i.Kind]; i.Node == node && !known {
				seen[i.Kind] = time.Now()
				kinds = append(kinds, i.Kind)
			}
		}
		if _, done := seen["readdition"]; !done {
			err = errors.Join(err, fmt.Errorf("incidents %v", all))
		}
		return err
	})
	kinds = slices.DeleteFunc(kinds, func(kind string) bool {
		return !slices.Contains([]string{"conviction", "removal", "readdition"}, kind)
	})
	if got := strings.Join(kinds, ", "); got != "conviction, removal, readdition" {
		c.t.Errorf("%s was replaced in the order: %s", node, got)
	}
	return seen
}

// expectOnlyReplaced checks that nobody but one node was held to be wrong.
func (c *cluster) expectOnlyReplaced(node string, after uint64) {
	c.t.Helper()
	all, err := c.incidents(after + 1)
	if err != nil {
		c.t.Error(err)
	}
	for _, i := range punished(all) {
		if i.Node != node {
			c.t.Errorf("%s is wrong and nobody else, but: %v", node, i)
		}
	}
}

// TestWrongNodeIsReplaced makes a follower and the leader wrong in each way while 16 clients write and read: no client
// notices, and the node is replaced.
func TestWrongNodeIsReplaced(t *testing.T) {
	c := startDev(t, t.TempDir())
	c.preload(scale[uint64](10_000, 50_000))
	tr := newTraffic(t, trafficWriters, c.rest())
	tr.start()
	for i, test := range []struct{ kind, role string }{
		{"wrong-results", "follower"}, {"wrong-results", "leader"}, {"wrong-state", "follower"}, {"wrong-state", "leader"},
	} {
		t.Run(test.kind+" "+test.role, func(t *testing.T) {
			// Each time another one: who is replaced too often is not let in again.
			victim, other := c.nodes[i%3], c.nodes[(i+1)%3]
			c.waitHealthy(30 * time.Second)
			if test.role == "leader" {
				c.lead(victim)
			} else {
				c.lead(other)
			}
			tr.waitFor(500) // hereafter it is quiet
			quietBegin := time.Now()
			tr.waitFor(scale[int64](2000, 10_000))
			before := c.sequence()
			quiet := tr.between(quietBegin, time.Now())
			injected := c.fault(victim, test.kind)
			seen := c.waitReplaced(victim, before, 30*time.Second)
			readded := seen["readdition"]
			during := tr.between(injected, readded)
			tr.waitFor(scale[int64](1000, 10_000))
			found, replaced := seen["conviction"].Sub(injected), readded.Sub(injected)
			t.Logf("%s (%s): convicted after %v, removed after %v, voter again after %v", test.role, victim, rounded(found),
				rounded(seen["removal"].Sub(injected)), rounded(replaced))
			t.Logf("quiet: %v", quiet)
			t.Logf("during: %v", during)
			expectWithin(t, "found", found, longestSearch)
			expectWithin(t, "voter again", replaced, longestReplacement)
			expectWithin(t, "p99 meanwhile", during.p99, mostSlowdown*quiet.p99)
			c.expectOnlyReplaced(victim, before)
			tr.expectClean()
		})
	}
	tr.finish()
	tr.verify()
	tr.expectClean()
	c.waitEqual(20 * time.Second)
	c.expectEqualCityLogs()
	t.Logf("%d answers, all checked against the model", tr.done.Load())
}

// TestThreeWrongAnswersConvict counts: three requests, one after the other, and no more are asked while a node answers
// them wrongly. That is enough to convict it, whatever it leads and whatever was asked. The client gets the right answer to
// each.
func TestThreeWrongAnswersConvict(t *testing.T) {
	c := startDev(t, t.TempDir())
	for i, test := range []struct {
		role, op string
	}{{"follower", "bookEvent"}, {"leader", "bookEvent"}, {"follower", "getBookingSchedule"}, {"leader", "getBookingSchedule"}} {
		t.Run(test.op+" "+test.role, func(t *testing.T) {
			victim, other := c.nodes[i%3], c.nodes[(i+1)%3]
			c.waitHealthy(30 * time.Second)
			leader := other
			if test.role == "leader" {
				leader = victim
			}
			c.lead(leader)
			event := conformance.Operation{"eventID": fmt.Sprintf("TORM%02d0133", i+1), "eventType": "seminar"}
			c.must("TORM0001", with(event, conformance.Operation{"op": "addEvent", "capacity": 100}))
			before := c.sequence()
			c.waitEqual(20 * time.Second) // who has not applied the event yet would be wrong about it, too
			injected := c.fault(victim, "wrong-results")
			for number := range 3 {
				customer := fmt.Sprintf("TORC%04d", number)
				operation := conformance.Operation{"op": test.op, "customerID": customer}
				if test.op == "bookEvent" {
					operation = with(event, operation)
				}
				body := c.must(customer, operation)
				if test.op == "bookEvent" && body["outcome"] != "booked" {
					t.Errorf("request %d: %v", number+1, body)
				}
			}
			asked := time.Since(injected)
			seen := c.waitReplaced(victim, before, 30*time.Second)
			t.Logf("%s (%s) found after three requests, which took %v; convicted %v after the fault, voter again after %v", test.role, victim,
				rounded(asked), rounded(seen["conviction"].Sub(injected)), rounded(seen["readdition"].Sub(injected)))
			c.expectOnlyReplaced(victim, before)
		})
	}
	for customer := range 3 {
		body := c.must("TORM0001", scheduleOf(fmt.Sprintf("TORC%04d", customer)))
		if bookings := body["bookings"].([]any); len(bookings) != 2 {
			t.Errorf("customer %d has the bookings %v, want the two that were acknowledged", customer, bookings)
		}
	}
}

// TestTwoWrongAnswersAreForgiven has a node answer two requests wrongly and then rightly: it is watched, not punished.
func TestTwoWrongAnswersAreForgiven(t *testing.T) {
	t.Parallel()
	c := startDev(t, t.TempDir())
	c.must("TORM0001", conformance.Operation{"op": "addEvent", "eventID": "TORM010133", "eventType": "seminar", "capacity": 100})
	victim, before := c.follower(), c.sequence()
	c.fault(victim, "wrong-results", map[string]any{"requests": 2})
	for number := range 10 {
		customer := fmt.Sprintf("TORC%04d", number)
		c.must(customer, conformance.Operation{"op": "bookEvent", "customerID": customer, "eventID": "TORM010133", "eventType": "seminar"})
	}
	status := c.waitEqual(20 * time.Second)
	for _, n := range status.Nodes {
		if n.Incarnation != 1 {
			t.Errorf("%s has incarnation %d", n.ID, n.Incarnation)
		}
	}
	all, err := c.incidents(before + 1)
	if err != nil {
		t.Error(err)
	}
	for _, i := range all {
		if slices.Contains([]string{"accusation", "conviction", "removal"}, i.Kind) {
			t.Errorf("two wrong answers and then right ones brought about: %v", i)
		}
	}
}

// TestWrongStateIsFoundWithoutClients alters a node's state while no client asks anything.
func TestWrongStateIsFoundWithoutClients(t *testing.T) {
	t.Parallel()
	c := startDev(t, t.TempDir())
	c.must("TORM0001", conformance.Operation{"op": "addEvent", "eventID": "TORM010133", "eventType": "seminar", "capacity": 100})
	victim, before := c.follower(), c.sequence()
	injected := c.fault(victim, "wrong-state")
	seen := c.waitReplaced(victim, before, 30*time.Second)
	t.Logf("%s: convicted %v after its state was altered, voter again after %v", victim,
		rounded(seen["conviction"].Sub(injected)), rounded(seen["readdition"].Sub(injected)))
	c.expectOnlyReplaced(victim, before)
	c.waitEqual(20 * time.Second)
}
