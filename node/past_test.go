package node_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"dems"
	"dems/internal/cluster"
	"dems/node/storage"
)

// waiting is a log that tells when a node says that it waits for its peers.
type waiting struct {
	slog.Handler
	said chan struct{}
}

func (w waiting) Enabled(context.Context, slog.Level) bool { return true }
func (w waiting) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w waiting) Handle(_ context.Context, record slog.Record) error {
	if strings.HasPrefix(record.Message, "waiting for peers") {
		select {
		case w.said <- struct{}{}:
		default:
		}
	}
	return nil
}

// TestANextLifeIsNoWitness has a node without data ask a peer that is waiting in its next life, empty, for the cluster that
// removed it: that peer does not know whether the other one has been a member, so no cluster is made.
func TestANextLifeIsNoWitness(t *testing.T) {
	t.Parallel()
	said := make(chan struct{}, 1)
	c := cluster.New(t, cluster.Config{Logger: func(string) slog.Handler { return waiting{slog.DiscardHandler, said} }})
	statuses := make(map[dems.NodeID]dems.NodeStatus)
	for _, id := range []dems.NodeID{"n1", "n2"} {
		statuses[id] = dems.NodeStatus{
			ID: id, Incarnation: 1, Ready: true, Configuration: 9,
			Members:   []dems.Member{{ID: "n1", Incarnation: 1, Suffrage: dems.Voter}, {ID: "n2", Incarnation: 1, Suffrage: dems.Voter}},
			Standings: []dems.Standing{{Node: "n3", Incarnation: 2, Condition: dems.Expelled}},
		}
	}
	removal, err := storage.ProveRemoval("n3", 1, c.IDs(), statuses)
	if err != nil {
		t.Fatal(err)
	}
	config := c.NodeConfig("n3")
	if err := storage.Empty(t.Context(), storage.Config{Dir: config.DataDir, ID: "n3", Cities: config.Cities}, removal, nil); err != nil {
		t.Fatal(err)
	}
	c.StartNode("n3")
	c.Eventually("n3 waits in its second life", func(ctx context.Context) error {
		status, err := c.Replica("n3").Status(ctx)
		if err == nil && (!status.Fresh || status.Incarnation != 2) {
			err = errors.New("it is not that")
		}
		return err
	})
	c.StartNode("n2")
	select {
	case <-said: // n2 has asked again and again
	case <-time.After(20 * time.Second):
		t.Error("n2 does not wait for its peers")
	}
	if status, err := c.Replica("n2").Status(t.Context()); err != nil || !status.Fresh {
		t.Errorf("n2 has made a cluster by the word of n3: %+v, %v", status, err)
	}
}

// TestMadeUpNamesAreNotAccused has a front end accuse whoever it likes: it would fill the incidents.
func TestMadeUpNamesAreNotAccused(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	leader := c.Replica(c.WaitLeader())
	accuse := func(ctx context.Context, id dems.NodeID, incarnation uint64) error {
		return leader.Report(ctx, dems.Report{Kind: dems.AccusationReport, Node: id, Incarnation: incarnation, Indexes: []uint64{1}})
	}
	c.Eventually("a member is accused", func(ctx context.Context) error { return accuse(ctx, "n2", 1) })
	for _, id := range []dems.NodeID{"n2", "n9"} {
		if err := accuse(t.Context(), id, 7); err == nil || kind(t, err) != dems.BadRequest {
			t.Errorf("incarnation 7 of %s: %v", id, err)
		}
	}
}
