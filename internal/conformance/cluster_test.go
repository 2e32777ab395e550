package conformance

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/frontend"
	"dems/internal/cluster"
	"dems/internal/faultnet"
)

func TestMain(m *testing.M) {
	status := m.Run()
	cluster.Cleanup()
	os.Exit(status)
}

// startFrontEnd starts a front end over the nodes of a cluster and waits until it answers.
func startFrontEnd(t *testing.T, c *cluster.Cluster) Target {
	t.Helper()
	var addresses []string
	replicas := map[string]frontend.Replica{}
	for _, id := range c.IDs() {
		addresses = append(addresses, c.Address(id))
		replicas[c.Address(id)] = c.Replica(id)
	}
	core, err := frontend.NewCore(frontend.Config{
		ID: "fe1", Address: "http://fe1", Version: "test", Nodes: addresses, Logger: slog.New(slog.DiscardHandler),
		Dial: func(address string) frontend.Replica { return replicas[address] },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := core.Run(ctx); err != nil {
			t.Errorf("front end: %v", err)
		}
	})
	server := httptest.NewServer(frontend.NewHandler(core, frontend.RESTConfig{}))
	t.Cleanup(func() {
		server.Close()
		stop()
		running.Wait()
	})
	c.Eventually("the front end answers", func(ctx context.Context) error {
		if _, known := core.Cities(ctx); !known {
			return errors.New("the cities are not known")
		}
		for _, check := range core.Checks(ctx) {
			if check.Err != nil {
				return check.Err
			}
		}
		return nil
	})
	return REST{BaseURL: server.URL, Client: server.Client()}
}

// TestCluster runs the cases through REST, the front end's core, QUIC, Raft and three nodes in one process, while the network
// is at fault: one node after the other is cut off, or everything is slow and loses packets, half of the time. Every answer
// is as it is without faults; it only takes longer.
func TestCluster(t *testing.T) {
	c := cluster.Start(t, cluster.Config{})
	target := startFrontEnd(t, c)
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
