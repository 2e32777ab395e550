//go:build linux

package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dems/internal/conformance"
	"dems/node"
	"dems/node/storage"
)

// stepDeadline is how long a replacement may take to reach a step, or to be finished after whoever was killed is back.
const stepDeadline = 30 * time.Second

// failpoints is the folder by which nodes are held up at steps of a replacement.
type failpoints struct{ dir string }

// arm has every node stop at a step, until disarm.
func (f failpoints) arm(t *testing.T, step string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, step), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// waitReached waits until a node is at a step that is armed, and returns its name.
func (f failpoints) waitReached(t *testing.T, step string) (name string) {
	t.Helper()
	eventually(t, stepDeadline, "somebody at the step "+step, func() error {
		found, err := filepath.Glob(filepath.Join(f.dir, step+".reached-*"))
		if err == nil && len(found) == 0 {
			return fmt.Errorf("nobody is there")
		}
		if err == nil {
			_, name, _ = strings.Cut(filepath.Base(found[0]), ".reached-")
		}
		return err
	})
	return name
}

// disarm lets everybody go on.
func (f failpoints) disarm(t *testing.T) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(f.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	}
}

// interruption is one replacement in which somebody is killed at a step.
type interruption struct{ step, role string }

// interruptions returns every step with everyone who can be killed there or, at the short scale, every step once.
func interruptions() []interruption {
	roles := []string{"leader", "accused", "front end"}
	var all []interruption
	for i, step := range append(slices.Clone(node.Steps), storage.Steps...) {
		for j, role := range roles {
			if full || j == i%len(roles) {
				all = append(all, interruption{step, role})
			}
		}
	}
	return all
}

// TestReplacementIsInterrupted kills the leader, the accused or the front end at every step of a replacement, under load:
// the replacement is finished all the same, and nothing that was acknowledged is lost.
func TestReplacementIsInterrupted(t *testing.T) {
	const perCluster = 6 // each node is convicted twice: more would put it into quarantine
	for chunk := range slices.Chunk(interruptions(), perCluster) {
		points := failpoints{t.TempDir()}
		c := startLinked(t, 3, "DEMSD_FAILPOINTS="+points.dir)
		tr := newTraffic(t, 4, c.rest())
		tr.every = 5 * time.Millisecond
		tr.start()
		for i, interrupted := range chunk {
			t.Run(interrupted.step+" "+interrupted.role, func(t *testing.T) {
				defer points.disarm(t)
				c.interrupt(t, points, interrupted, c.nodes[i%3], c.nodes[(i+1)%3])
				tr.wrong.expectNone(t, "wrong answers")
				tr.failed.expectNone(t, "failed requests")
			})
			if t.Failed() {
				break
			}
		}
		tr.finish()
		tr.verify()
		tr.wrong.expectNone(t, "wrong answers")
		tr.failed.expectNone(t, "failed requests")
		c.waitEqual(20 * time.Second)
		c.expectEqualCityLogs()
		if t.Failed() {
			return
		}
		c.close()
	}
}

// interrupt makes a node wrong, kills somebody at a step of its replacement, starts who was killed again, and waits until
// the replacement is finished.
func (c *handCluster) interrupt(t *testing.T, points failpoints, i interruption, accused, other string) {
	t.Helper()
	c.waitHealthy(stepDeadline)
	if i.step == "hand-over" { // only a leader that is convicted itself hands over
		c.lead(accused)
	} else {
		c.lead(other)
	}
	before := c.sequence()
	points.arm(t, i.step)
	begin := c.fault(accused, "wrong-state")
	reached := points.waitReached(t, i.step)
	killed := map[string]string{"accused": accused, "front end": "fe1"}[i.role]
	if i.role == "leader" {
		if killed = reached; reached == accused && i.step != "hand-over" { // the accused's own step
			killed = c.leaderNow()
		}
	}
	c.kill(killed)
	points.disarm(t)
	c.start(killed)
	c.waitIncident("readdition", accused, before, stepDeadline)
	c.waitHealthy(stepDeadline)
	t.Logf("%s replaced although %s was killed when %s had reached %s: %v after the fault", accused, killed, reached, i.step, rounded(time.Since(begin)))
	c.expectOnlyReplaced(accused, before)
}

// leaderNow returns the leader that the front end knows.
func (c *cluster) leaderNow() string {
	c.t.Helper()
	var leader string
	eventually(c.t, 20*time.Second, "a leader", func() error {
		status, err := c.clusterStatus()
		if leader = status.Leader; err == nil && leader == "" {
			err = fmt.Errorf("none: %+v", status)
		}
		return err
	})
	return leader
}

// TestOneWrongAndOneDead takes five nodes and kills one of them at the moment in which another becomes wrong.
func TestOneWrongAndOneDead(t *testing.T) {
	c := startLinked(t, 5)
	tr := newTraffic(t, trafficWriters, c.rest())
	tr.start()
	tr.waitFor(scale[int64](1000, 10_000))
	for _, kind := range []string{"wrong-results", "wrong-state"} {
		for _, role := range []string{"follower", "leader"} {
			leader := c.leading()
			at := slices.Index(c.nodes, leader)
			wrong, dead := c.nodes[(at+1)%5], c.nodes[(at+2)%5]
			if role == "leader" {
				dead = leader
			}
			before := c.sequence()
			begin := time.Now()
			c.kill(dead)
			c.fault(wrong, kind)
			c.waitReplaced(wrong, before, stepDeadline)
			t.Logf("%s, and the %s killed: voter again after %v", kind, role, rounded(time.Since(begin)))
			c.start(dead)
			c.waitHealthy(stepDeadline)
			tr.waitFor(scale[int64](500, 5000))
			c.expectOnlyReplaced(wrong, before)
		}
	}
	tr.finish()
	tr.verify()
	tr.expectClean()
	c.waitEqual(20 * time.Second)
	c.expectEqualCityLogs()
	t.Logf("%d answers, all checked against the model", tr.done.Load())
}

// TestTwoOfThreeWrong makes two of three nodes wrong in different ways: what depends on it is not answered, and nobody is
// convicted, because nobody can know who is right. When one of them is repaired, the rest follows by itself.
func TestTwoOfThreeWrong(t *testing.T) {
	for _, test := range []struct {
		wrong  string
		repair func(c *handCluster, node string)
	}{
		{"both followers", func(c *handCluster, node string) { c.replace(node) }},            // from the leader, who is right
		{"both followers, restarted", func(c *handCluster, node string) { c.restart(node) }}, // memory from disk
		{"the leader and a follower", func(c *handCluster, node string) { c.restart(node) }},
	} {
		t.Run(test.wrong, func(t *testing.T) {
			c := startLinked(t, 3)
			event := conformance.Operation{"eventID": "TORM010133", "eventType": "seminar"}
			book := func(number int) (string, conformance.Operation) {
				customer := fmt.Sprintf("TORC%04d", number)
				return customer, with(event, conformance.Operation{"op": "bookEvent", "customerID": customer, "key": fmt.Sprint("two-wrong-", number)})
			}
			for _, slot := range "AEM" { // something to be wrong about, so much that two nodes are not wrong in the same way
				for day := range 10 {
					event["eventID"] = fmt.Sprintf("TOR%c%02d0133", slot, 1+day)
					c.must("TORM0001", with(event, conformance.Operation{"op": "addEvent", "capacity": 100}))
				}
			}
			const bookings = 20
			for number := range bookings {
				c.must(book(number))
			}
			leader := c.leader()
			at := slices.Index(c.nodes, leader)
			victims := []string{c.nodes[(at+1)%3], c.nodes[(at+2)%3]}
			if strings.Contains(test.wrong, "leader") {
				victims[1] = leader
			}
			before := c.sequence()
			var injecting sync.WaitGroup
			for i, victim := range victims { // at once, so that no majority finds the first
				injecting.Go(func() {
					for range i + 1 {
						c.fault(victim, "wrong-state")
					}
				})
			}
			injecting.Wait()

			c.expectNoMajority(book(bookings))
			all, err := c.incidents(before + 1)
			if err != nil {
				t.Error(err)
			}
			for _, i := range punished(all) {
				if i.Kind != "no-majority" && i.Kind != "verdict" {
					t.Errorf("nobody can know who is right, but: %v", i)
				}
			}

			begin := time.Now()
			test.repair(c, victims[0])
			c.waitReplaced(victims[1], before, stepDeadline)
			t.Logf("%s repaired by hand, and then %s replaced by itself, after %v", victims[0], victims[1], rounded(time.Since(begin)))
			if body := c.must(book(bookings)); body["outcome"] != "booked" {
				t.Errorf("the request that was refused, again: %v", body)
			}
			for number := range bookings + 1 {
				customer := fmt.Sprintf("TORC%04d", number)
				if body := c.must(customer, scheduleOf(customer)); len(body["bookings"].([]any)) != 1 {
					t.Errorf("schedule of %s: %v", customer, body)
				}
			}
			c.waitEqual(20 * time.Second)
			c.expectEqualCityLogs()
		})
	}
}

// expectNoMajority sends a request that has to be refused for want of a majority.
func (c *cluster) expectNoMajority(as string, operation conformance.Operation) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), attemptDeadline)
	defer cancel()
	answer, err := c.rest().Do(ctx, as, operation)
	if err != nil {
		c.t.Fatal(err)
	}
	if body, _ := answer.Body.(map[string]any); body["code"] != "no_majority" {
		c.t.Errorf("%v with two of three nodes wrong: %d %v, want no_majority", operation, answer.Status, answer.Body)
	}
}

// copyFolder copies files and folders.
func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestOldFolderDoesNotGetIn starts a node from the folder that it had when it was wrong, snapshot and log, after it was replaced:
// it gets no vote with it. An operator has it replaced, and it is correct.
func TestOldFolderDoesNotGetIn(t *testing.T) {
	points := failpoints{t.TempDir()}
	c := startLinked(t, 3, "DEMSD_FAILPOINTS="+points.dir, "DEMSD_SNAPSHOT_INTERVAL=100ms", "DEMSD_SNAPSHOT_THRESHOLD=20", "DEMSD_TRAILING_LOGS=10")
	tr := newTraffic(t, trafficWriters, c.rest())
	tr.start()
	tr.waitFor(2000)
	leader := c.leading()
	victim := c.nodes[(slices.Index(c.nodes, leader)+1)%3]
	before := c.sequence()
	points.arm(t, "remove")
	right := snapshots(c.dataDir, victim)
	c.fault(victim, "wrong-state")
	points.waitReached(t, "remove")
	tr.waitFor(1000) // it is still a member and may take a snapshot of what is wrong
	if now := snapshots(c.dataDir, victim); slices.Equal(now, right) {
		t.Logf("%s has taken no snapshot since it is wrong", victim)
	} else {
		t.Logf("%s has taken a snapshot of its wrong state", victim)
	}
	c.kill(victim)
	folder, old := filepath.Join(c.dataDir, victim), filepath.Join(t.TempDir(), "old")
	copyFolder(t, folder, old)
	points.disarm(t)
	c.start(victim)
	c.waitReplaced(victim, before, stepDeadline)
	tr.waitFor(500)

	c.kill(victim)
	c.waitDown(victim)
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	copyFolder(t, old, folder)
	after := c.sequence()
	c.start(victim)
	c.expectKeptOut(victim, after, func() { tr.waitFor(100) })
	c.replace(victim)
	c.waitIncident("readdition", victim, after, stepDeadline)
	tr.waitFor(500)
	tr.finish()
	tr.verify()
	tr.expectClean()
	for _, n := range c.waitEqual(20 * time.Second).Nodes {
		if want := uint64(1); n.ID == victim && n.Incarnation < 3 || n.ID != victim && n.Incarnation != want {
			t.Errorf("%s has incarnation %d", n.ID, n.Incarnation)
		}
	}
}

// expectKeptOut watches a node that must not get in as it is, while something goes on.
func (c *cluster) expectKeptOut(name string, after uint64, meanwhile func()) {
	c.t.Helper()
	seen := map[string]int{}
	for begin := time.Now(); time.Since(begin) < scale(2*time.Second, 10*time.Second); meanwhile() {
		status, err := c.clusterStatus()
		if err != nil {
			c.t.Fatal(err)
		}
		for _, n := range status.Nodes {
			if n.ID != name {
				continue
			}
			if seen[fmt.Sprintf("%s/%d %s %s", n.ID, n.Incarnation, n.State, n.Suffrage)]++; n.State == "healthy" {
				c.t.Fatalf("%s is back: %+v", name, status)
			}
		}
	}
	c.t.Logf("kept out, and seen as: %v", seen)
	all, err := c.incidents(after + 1)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, i := range punished(all) {
		c.t.Errorf("nobody voted wrongly, but: %v", i)
	}
}
