package conformance

import (
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/internal/cluster"
	"dems/internal/faultnet"
)

func TestMain(m *testing.M) {
	status := m.Run()
	cluster.Cleanup()
	os.Exit(status)
}

// TestCluster runs the cases through REST, the front end's core, QUIC, Raft and three nodes in one process, while the network
// is at fault: one node after the other is cut off, or everything is slow and loses packets, half of the time. Every answer
// is as it is without faults; it only takes longer.
func TestCluster(t *testing.T) {
	c := cluster.Start(t, cluster.Config{})
	server := c.FrontEnd()
	target := REST{BaseURL: server.URL, Client: server.Client()}
	finished := make(chan struct{})
	var faults sync.WaitGroup
	faults.Go(func() { injectFaults(c, finished) })
	Run(t, target)
	close(finished)
	faults.Wait()
	expectNothingLeft(t, target)
	c.WaitEqual()
}

// injectFaults puts the network through one fault after the other, with a pause between them, until finished.
func injectFaults(c *cluster.Cluster, finished <-chan struct{}) {
	defer c.Network.Heal()
	const faultTime, calmTime = 500 * time.Millisecond, 500 * time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for round := 0; ; round++ {
		select {
		case <-finished:
			return
		case <-timer.C:
		}
		ids := c.IDs()
		switch {
		case round%2 == 1:
			c.Network.Heal()
			timer.Reset(calmTime)
			continue
		case round%8 == 6:
			c.Network.SetAll(faultnet.Link{Loss: 0.05, Delay: time.Millisecond, Jitter: 5 * time.Millisecond})
		default:
			cut := ids[round/2%len(ids)]
			others := slices.DeleteFunc(slices.Clone(ids), func(id dems.NodeID) bool { return id == cut })
			c.Network.Partition([]string{c.Address(cut)}, []string{c.Address(others[0]), c.Address(others[1]), "fe1:7000"})
		}
		timer.Reset(faultTime)
	}
}
