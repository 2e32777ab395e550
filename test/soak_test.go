//go:build linux

package test

import (
	"context"
	"fmt"
	random "math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	generator "dems/client/load"
)

const (
	shortSoak = 20 * time.Second
	// longSoak is from when on a soak first fills what is bounded, and may tell whether anything grows.
	longSoak = 5 * time.Minute
	// soakTrailing is how many entries stay behind a snapshot in a long soak.
	soakTrailing = 400
	// soakKeys is how many idempotency keys are made before anything is measured: as many as are remembered, so that later ones
	// push out earlier ones and the state is as large as it gets.
	soakKeys = 1_000_000
	// fillTime bounds making them; a machine with nothing else to do takes two or three minutes.
	fillTime = 20 * time.Minute
	// soakRate is how many requests the writers begin in a second, all together.
	soakRate = 200
	// wrongNodes is how many nodes are made wrong in a long soak. More than three an hour, and a node is quarantined.
	wrongNodes = 6
)

// soakTime returns how long to soak: $DEMS_SOAK, or a short time.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("DEMS_SOAK")
	if text == "" {
		return shortSoak
	}
	duration, err := time.ParseDuration(text)
	if err != nil || duration < time.Second || duration > 24*time.Hour {
		t.Fatalf("DEMS_SOAK=%q: a time from 1s to 24h, as in 30m", text)
	}
	return duration
}

// spares tells whether a failure leaves the process alive.
func (f failure) spares() bool { return !strings.Contains(f.name, "killed") && f.name != "restarted" }

// TestSoak has everything happen to the nodes, wrong ones included, for as long as $DEMS_SOAK says, with logs that are cut and
// snapshots that are taken all the time. Every answer is compared with a model or is part of a history that is checked. One node
// and the front end are never started again, so that their memory shows what they keep.
func TestSoak(t *testing.T) {
	duration := soakTime(t)
	seed := random.Uint64()
	t.Logf("seed %d, for %v", seed, duration)
	c := &chaos{random: random.New(random.NewPCG(seed, 0)), counts: map[string]int{}}
	snapshots := []string{"DEMSD_SNAPSHOT_INTERVAL=500ms", "DEMSD_SNAPSHOT_THRESHOLD=40", "DEMSD_TRAILING_LOGS=20"}
	if duration >= longSoak {
		// With a million keys a snapshot is a hundred megabytes. A node that is late must not need one before it has read the last.
		snapshots = []string{"DEMSD_SNAPSHOT_INTERVAL=2s", "DEMSD_SNAPSHOT_THRESHOLD=800", fmt.Sprint("DEMSD_TRAILING_LOGS=", soakTrailing)}
	}
	c.handCluster = startLinked(t, 3, snapshots...)
	if duration >= longSoak {
		c.fillKeys()
	}
	c.traffic = newTraffic(t, trafficWriters, c.rest())
	c.traffic.every = trafficWriters * time.Second / soakRate
	steady, others := c.nodes[0], c.nodes[1:]
	kinds := append(failures[:len(failures):len(failures)], failure{"killed and away until it needs a snapshot", (*chaos).away})
	growth := watchGrowth(c.handCluster, steady, "fe1")
	c.traffic.start()
	fought := startHistories(t, c.url, seed)
	wrong := 0
	begin := time.Now()
	for number := 0; time.Since(begin) < duration && !t.Failed(); number++ {
		c.waitHealthy(60 * time.Second)
		if due := wrongDue(time.Since(begin), duration); wrong < due {
			c.makeWrong(others[wrong%len(others)], []string{"wrong-state", "wrong-results"}[wrong/2%2])
			wrong++
			continue
		}
		happens := kinds[c.random.IntN(len(kinds))]
		victim := others[c.random.IntN(len(others))]
		if happens.spares() && c.random.IntN(3) == 0 {
			victim = steady
		}
		happens.happen(c, victim)
		c.counts[happens.name]++
	}
	c.waitHealthy(60 * time.Second)
	taken := growth.finish()
	fought.finish()
	c.traffic.finish()
	c.traffic.verify()
	c.traffic.expectClean()
	c.waitEqual(30 * time.Second)
	c.expectEqualCityLogs()
	installed := c.logged(others, "installed a snapshot from the leader")
	t.Logf("%d answers as the model has them, %d operations in %d linearizable histories, %v, %d nodes made wrong and replaced, %d snapshots taken, "+
		"%d sent to nodes that were too late", c.traffic.done.Load(), fought.operations, fought.groups, c.counts, wrong, taken, installed)
	if wrong == 0 || taken < 3*len(c.nodes) || installed == 0 || fought.groups == 0 {
		t.Error("too little happened for this to show anything")
	}
	if duration >= longSoak {
		growth.expectLevel(t)
	}
}

// away kills a node and starts it again when the others have cut what it lacks from their logs.
func (c *chaos) away(victim string) {
	c.kill(victim)
	reached := c.applied()
	eventually(c.t, 5*time.Minute, "the others are far ahead of "+victim, func() error {
		if applied := c.applied(); applied < reached+2*soakTrailing {
			return fmt.Errorf("from %d to %d", reached, applied)
		}
		return nil
	})
	c.start(victim)
}

// applied returns the largest index that a node has applied.
func (c *cluster) applied() (index uint64) {
	if status, err := c.clusterStatus(); err == nil {
		for _, n := range status.Nodes {
			index = max(index, n.Applied)
		}
	}
	return index
}

// wrongDue returns how many nodes should have been made wrong by now.
func wrongDue(since, duration time.Duration) int {
	most := wrongNodes
	if duration < longSoak {
		most = 1
	}
	return min(most, int(2*int64(most)*int64(since)/int64(duration)+1)/2)
}

// fillKeys makes as many bookings with idempotency keys as are remembered.
func (c *cluster) fillKeys() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*fillTime)
	defer cancel()
	report, err := generator.Run(ctx, generator.Config{
		Endpoints: []string{c.url}, Connections: 64, Duration: fillTime, Operations: soakKeys, Events: 1000, Customers: firstWritersCustomer,
	})
	if err != nil || report.Operations < soakKeys {
		c.t.Fatalf("filling the table of keys: %+v, %v", report, err)
	}
}

// makeWrong makes a node wrong, and waits until it was replaced and nobody else was punished. The node must have caught up: a
// snapshot that it is sent just then would put its state right again.
func (c *chaos) makeWrong(victim, kind string) {
	c.t.Helper()
	c.leading()
	before := c.sequence()
	c.fault(victim, kind)
	c.waitReplaced(victim, before, 60*time.Second)
	c.expectOnlyReplaced(victim, before)
	c.counts[kind]++
}

// logged counts the lines of some nodes' logs that hold a text.
func (c *cluster) logged(nodes []string, text string) int {
	c.t.Helper()
	count := 0
	for _, name := range nodes {
		data, err := os.ReadFile(fmt.Sprintf("%s/%s/log", c.dataDir, name))
		if err != nil {
			c.t.Error(err)
		}
		count += strings.Count(string(data), text)
	}
	return count
}
