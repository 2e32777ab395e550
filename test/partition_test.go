//go:build linux

package test

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// networkFault is what happens to the network of a node in TestNetworkFaults. What cuts a node off from everybody in both
// directions is left to TestLeaderCutOff and TestCorrectNodesAreNeverConvicted.
type networkFault struct {
	name   string
	leader bool // of the leader, else of a follower
	fields map[string]any
	peers  peers
}

// peers is who is at the other end of the lines that are cut or slow.
type peers int

const (
	everybody peers = iota
	theNodes        // front ends reach all
	frontEnds       // the nodes reach each other
)

var networkFaults = []networkFault{
	{"leader cut off from the nodes", true, map[string]any{"kind": "partition"}, theNodes},
	{"leader does not hear the nodes", true, map[string]any{"kind": "partition", "direction": "incoming"}, theNodes},
	{"leader is not heard by the nodes", true, map[string]any{"kind": "partition", "direction": "outgoing"}, theNodes},
	{"leader hears nobody", true, map[string]any{"kind": "partition", "direction": "incoming"}, everybody},
	{"leader is heard by nobody", true, map[string]any{"kind": "partition", "direction": "outgoing"}, everybody},
	{"leader cut off from the front ends", true, map[string]any{"kind": "partition"}, frontEnds},
	{"follower cut off from the front ends", false, map[string]any{"kind": "partition"}, frontEnds},
	{"follower hears nobody", false, map[string]any{"kind": "partition", "direction": "incoming"}, everybody},
	{"follower is heard by nobody", false, map[string]any{"kind": "partition", "direction": "outgoing"}, everybody},
	{"leader is far away", true, map[string]any{"kind": "latency", "milliseconds": 20, "jitterMilliseconds": 20}, everybody},
	{"follower is far away", false, map[string]any{"kind": "latency", "milliseconds": 100, "jitterMilliseconds": 50}, everybody},
}

// TestNetworkFaults cuts and slows the network of the leader and of a follower, in both directions and in one, from inside
// the process: every fault ends by itself, no request fails meanwhile, no answer is wrong, and nobody is held to be.
func TestNetworkFaults(t *testing.T) {
	const lasts = 3 * time.Second
	c := startDev(t, t.TempDir())
	tr := newTraffic(t, trafficWriters, c.rest())
	tr.start()
	tr.waitFor(1000)
	var all []figures
	for _, happens := range networkFaults {
		t.Run(happens.name, func(t *testing.T) {
			leader := c.leading()
			victim := leader
			if !happens.leader {
				victim = c.nodes[(slices.Index(c.nodes, leader)+1)%len(c.nodes)]
			}
			fields := maps.Clone(happens.fields)
			switch happens.peers {
			case theNodes:
				fields["peers"] = slices.DeleteFunc(slices.Clone(c.nodes), func(name string) bool { return name == victim })
			case frontEnds:
				fields["peers"] = []string{"frontends"}
			}
			fields["lastsMilliseconds"] = lasts.Milliseconds()
			begin := c.fault(victim, "", fields)
			over := time.NewTimer(lasts)
			defer over.Stop()
			if happens.leader && fields["kind"] == "partition" && happens.peers != frontEnds { // whom the nodes go on following
				c.waitLed(leader)
			}
			tr.waitFor(settledAfterFailure)
			<-over.C
			c.waitHealthy(20 * time.Second)
			figures := tr.between(begin, time.Now())
			t.Logf("%s: %v", victim, figures)
			all = append(all, figures)
		})
	}
	tr.finish()
	tr.verify()
	tr.expectClean()
	c.expectNobodyPunished()
	expectPauses(t, "network faults", all, longestPauseOfStop, longestPauseOfStop, longestPauseOfStop)
}
