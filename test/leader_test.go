//go:build linux

package test

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"
)

// What docs/reliability.md claims of a change of leader.
const (
	typicalPauseOfKill  = 150 * time.Millisecond
	longestPauseOfKill  = 500 * time.Millisecond
	longestPauseOfStop  = time.Second
	longestPauseOfMove  = 50 * time.Millisecond
	slowestReadOfKill   = 250 * time.Millisecond
	settledAfterFailure = 500 // answers after which whatever a failure delayed is over
)

// leading returns the name of the leading node once every node is a healthy voter and has applied what any of them had: who
// answers has not necessarily noticed yet that somebody else leads.
func (c *cluster) leading() string {
	c.t.Helper()
	c.waitHealthy(30 * time.Second)
	var leader string
	reached := uint64(0)
	eventually(c.t, 30*time.Second, "all nodes follow", func() error {
		status, err := c.clusterStatus()
		if err != nil {
			return err
		}
		if reached == 0 {
			for _, n := range status.Nodes {
				reached = max(reached, n.Applied)
			}
			reached++
		}
		leader = status.Leader
		for _, n := range status.Nodes {
			if n.Applied < reached || leader == "" {
				return fmt.Errorf("index %d: %+v", reached, status)
			}
		}
		return nil
	})
	return leader
}

// waitLed waits until another node leads.
func (c *cluster) waitLed(before string) {
	c.t.Helper()
	eventually(c.t, 20*time.Second, "another leader than "+before, func() error {
		status, err := c.clusterStatus()
		if err == nil && (status.Leader == "" || status.Leader == before) {
			err = fmt.Errorf("%+v", status)
		}
		return err
	})
}

// expectPauses checks the pauses that one kind of failure brought about, and tells them.
func expectPauses(t *testing.T, what string, all []figures, typical, longest, read time.Duration) {
	t.Helper()
	var pauses, reads []time.Duration
	for _, f := range all {
		pauses, reads = append(pauses, f.pause), append(reads, f.slowestRead)
	}
	slices.Sort(pauses)
	t.Logf("%s, %d times: longest pause between acknowledged writes p50 %v, max %v; slowest read p50 %v, max %v; each: %v", what,
		len(all), rounded(quantile(pauses, 0.5)), rounded(quantile(pauses, 1)), rounded(quantile(reads, 0.5)), rounded(quantile(reads, 1)), pauses)
	expectWithin(t, what+": typical pause", quantile(pauses, 0.5), typical)
	expectWithin(t, what+": longest pause", quantile(pauses, 1), longest)
	expectWithin(t, what+": slowest read", quantile(reads, 1), read)
}

// TestLeaderKilled kills the leader again and again while 16 clients write and read.
func TestLeaderKilled(t *testing.T) {
	c := startDev(t, t.TempDir())
	tr := newTraffic(t, trafficWriters, c.rest())
	tr.start()
	tr.waitFor(2000)
	var all []figures
	for range scale(8, 50) {
		leader := c.leading()
		begin := time.Now()
		before := c.signal(leader, syscall.SIGKILL)
		c.waitRestarted(leader, before, 10*time.Second)
		tr.waitFor(settledAfterFailure)
		all = append(all, tr.between(begin, time.Now()))
	}
	tr.finish()
	tr.verify()
	tr.expectClean()
	c.expectNobodyPunished()
	expectPauses(t, "leader killed", all, typicalPauseOfKill, longestPauseOfKill, slowestReadOfKill)
}

// TestLeaderStopped stops the leader's process without ending it, and lets it go on when another leads.
func TestLeaderStopped(t *testing.T) {
	c := startDev(t, t.TempDir())
	tr := newTraffic(t, trafficWriters, c.rest())
	tr.start()
	tr.waitFor(1000)
	var all []figures
	for range scale(3, 10) {
		leader := c.leading()
		begin := time.Now()
		resume := c.suspend(leader)
		c.waitLed(leader)
		tr.waitFor(settledAfterFailure)
		resume()
		c.waitHealthy(20 * time.Second)
		all = append(all, tr.between(begin, time.Now()))
	}
	tr.finish()
	tr.verify()
	tr.expectClean()
	c.expectNobodyPunished()
	expectPauses(t, "leader stopped", all, longestPauseOfStop, longestPauseOfStop, longestPauseOfStop)
}

// TestLeadershipHandedOver hands leadership over from node to node.
func TestLeadershipHandedOver(t *testing.T) {
	c := startDev(t, t.TempDir())
	tr := newTraffic(t, trafficWriters, c.rest())
	tr.start()
	tr.waitFor(1000)
	var all []figures
	for range scale(5, 20) {
		leader := c.leading()
		to := c.nodes[(slices.Index(c.nodes, leader)+1)%len(c.nodes)]
		begin := time.Now()
		c.lead(to)
		tr.waitFor(settledAfterFailure)
		all = append(all, tr.between(begin, time.Now()))
	}
	tr.finish()
	tr.verify()
	tr.expectClean()
	c.expectNobodyPunished()
	expectPauses(t, "leadership handed over", all, longestPauseOfMove, longestPauseOfMove, slowestReadOfKill)
}

// TestLeaderCutOff cuts the leader off from the other nodes and from the front end, and lets it back in.
func TestLeaderCutOff(t *testing.T) {
	c := startLinked(t, 3)
	tr := newTraffic(t, trafficWriters, c.rest())
	tr.start()
	tr.waitFor(1000)
	var all []figures
	for range scale(3, 10) {
		leader := c.leading()
		begin := time.Now()
		c.links.isolate(leader, c.processes())
		c.waitLed(leader)
		tr.waitFor(settledAfterFailure)
		c.links.heal()
		c.waitHealthy(20 * time.Second)
		all = append(all, tr.between(begin, time.Now()))
	}
	tr.finish()
	tr.verify()
	tr.expectClean()
	c.expectNobodyPunished()
	expectPauses(t, "leader cut off", all, longestPauseOfStop, longestPauseOfStop, longestPauseOfStop)
}
