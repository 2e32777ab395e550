//go:build linux

package test

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/transport"
)

// hostile is a front end with a certificate of the cluster that says of everybody that they are wrong and do not answer.
type hostile struct {
	endpoint *transport.Endpoint
	replicas map[string]*transport.Replica
	reports  int
}

// newHostile connects to every node.
func newHostile(t *testing.T, c *cluster) *hostile {
	t.Helper()
	c.issue(transport.RoleFrontEnd, "hostile")
	credentials, err := transport.LoadCredentials(c.pki(), transport.RoleFrontEnd, "hostile")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := transport.Listen(transport.Config{Credentials: credentials, PacketConn: socket, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{endpoint: endpoint, replicas: map[string]*transport.Replica{}}
	t.Cleanup(func() {
		if err := endpoint.Close(); err != nil {
			t.Error(err)
		}
	})
	for i, address := range c.nodeAddresses() {
		h.replicas[c.nodes[i]] = endpoint.Replica(address)
	}
	return h
}

// lie tells every node of every node that it is wrong, with log indexes at which it has just voted, and that the leader does
// not answer.
func (h *hostile) lie(ctx context.Context, status clusterStatus) {
	for _, accused := range status.Nodes {
		report := dems.Report{
			Kind: dems.AccusationReport, Node: dems.NodeID(accused.ID), Incarnation: accused.Incarnation, Strikes: 3,
			Expected: "booked", Answered: "event_full",
		}
		for back := uint64(dems.MaxReportIndexes); back > 0; back-- {
			if accused.Applied > back {
				report.Indexes = append(report.Indexes, accused.Applied-back)
			}
		}
		suspicion := dems.Suspicion{Leader: dems.NodeID(status.Leader), Term: status.Term}
		for _, replica := range h.replicas {
			// Whether a node takes it in or refuses it is its business; what counts is what comes of it.
			_ = replica.Report(ctx, report)
			_, _ = replica.Suspect(ctx, suspicion)
			h.reports++
		}
	}
}

// TestHostileFrontEnd has a front end accuse and suspect correct nodes all the time, while others work: nobody is convicted,
// the leader stays, and no request fails. When a node does become wrong, it is convicted as ever.
func TestHostileFrontEnd(t *testing.T) {
	c := startDev(t, t.TempDir())
	tr := newTraffic(t, trafficWriters, c.rest())
	tr.start()
	tr.waitFor(500)
	h := newHostile(t, &c.cluster)
	before := c.waitHealthyStatus(30 * time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	var lying sync.WaitGroup
	lying.Go(func() {
		for ctx.Err() == nil {
			if status, err := c.clusterStatus(); err == nil {
				h.lie(ctx, status)
			}
		}
	})
	defer lying.Wait()
	defer cancel()
	begin := time.Now()
	tr.waitFor(scale[int64](5000, 50_000))
	during := tr.between(begin, time.Now())
	c.expectNobodyConvicted()
	after := c.waitHealthyStatus(30 * time.Second)
	if after.Leader != before.Leader || after.Term != before.Term {
		t.Errorf("%s led in term %d, after the lies %s leads in term %d", before.Leader, before.Term, after.Leader, after.Term)
	}
	victim, sequence := c.nodes[0], c.sequence()
	c.fault(victim, "wrong-state")
	c.waitReplaced(victim, sequence, 30*time.Second)
	cancel()
	lying.Wait()
	tr.finish()
	tr.verify()
	tr.expectClean()
	t.Logf("%d false accusations and suspicions in %v; meanwhile: %v", h.reports, time.Since(begin).Round(time.Second), during)
}

// waitHealthyStatus waits until every node is a healthy voter and returns what the front end says of them.
func (c *cluster) waitHealthyStatus(within time.Duration) clusterStatus {
	c.t.Helper()
	c.waitHealthy(within)
	status, err := c.clusterStatus()
	if err != nil {
		c.t.Fatal(err)
	}
	return status
}

// expectNobodyConvicted checks that no node was found wrong or replaced, whatever others say of it.
func (c *cluster) expectNobodyConvicted() {
	c.t.Helper()
	all, err := c.incidents(0)
	if err != nil {
		c.t.Error(err)
	}
	for _, i := range punished(all) {
		if i.Kind != "accusation" {
			c.t.Errorf("all nodes are correct, but: %v", i)
		}
	}
	status, err := c.clusterStatus()
	if err != nil {
		c.t.Error(err)
	}
	for _, n := range status.Nodes {
		if n.Incarnation != 1 {
			c.t.Errorf("%s is correct and has incarnation %d", n.ID, n.Incarnation)
		}
	}
}

// TestSeveralFrontEnds has two front ends, each with clients of its own, see the same wrong node at once: it is replaced
// once, and no client notices.
func TestSeveralFrontEnds(t *testing.T) {
	c := startDev(t, t.TempDir())
	second := c.startFrontEnd("fe2")
	first, other := newTraffic(t, trafficWriters, c.rest()), newTrafficFrom(t, trafficWriters, trafficWriters, second.rest())
	first.start()
	other.start()
	other.waitFor(500)
	victim, before := c.nodes[0], c.sequence()
	c.fault(victim, "wrong-results")
	c.waitReplaced(victim, before, 30*time.Second)
	c.expectOnlyReplaced(victim, before)
	first.finish()
	first.verify()
	first.expectClean()
	other.waitFor(500)
	other.finish()
	other.verify()
	other.expectClean()
	c.waitEqual(20 * time.Second)
}
