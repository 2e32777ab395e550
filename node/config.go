package node

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"dems"
	"dems/transport"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says which node to run and how. DefaultConfig gives everything but the first group.
type Config struct {
	ID      dems.NodeID
	DataDir string                 // made if it is not there; no other process may use it
	Peers   map[dems.NodeID]string // every node of the cluster and its HOST:PORT (UDP), this one included
	Cities  dems.Cities            // the same on every node, for ever
	// Endpoint is the node's socket. Run serves it; the caller closes it after Run has returned.
	Endpoint *transport.Endpoint
	Address  string                // HOST:PORT to register under; "" is the one in Peers
	Version  string                // of the program, to register
	Logger   *slog.Logger          // nil: silent
	Metrics  prometheus.Registerer // nil: no metrics

	// HeartbeatTimeout is after how long without a word from the leader, times 1 to 2, a follower stands for election;
	// the leader sends ten in that time. Default 500 ms. Danger: shorter than the longest pause of the machine (disk,
	// scheduling, garbage collection), and leaders are replaced without need.
	HeartbeatTimeout time.Duration
	// LeaderLease is after how long without hearing from a majority the leader steps down. At most HeartbeatTimeout.
	LeaderLease time.Duration
	// CommitTimeout is after how long, times 1 to 2, an idle leader tells the followers again what is committed. It
	// costs messages only: after a proposal they are told at once.
	CommitTimeout time.Duration
	// RaftTimeout bounds one message between Raft members, a snapshot's more, by its size.
	RaftTimeout time.Duration

	// SnapshotInterval is how often, times 1 to 2, the node looks whether a snapshot is due.
	SnapshotInterval time.Duration
	// SnapshotThreshold is how many log entries since the last snapshot make one due.
	SnapshotThreshold uint64
	// TrailingLogs is how many entries stay in the log behind a snapshot. A follower that is further behind is sent the
	// snapshot. Danger: fewer entries than arrive while a snapshot is sent and restored, and it never catches up.
	TrailingLogs uint64

	// MaxProposals is how many proposals may be in flight, and how many more on their way to another leader for front ends;
	// what exceeds that is refused as not applied.
	MaxProposals int
	// MaxQueries is how many query calls may wait for the state they need; more are refused as not ready.
	MaxQueries int
	// WaitTimeout bounds waiting in calls whose context has no deadline.
	WaitTimeout time.Duration

	// AuditInterval is how often the node forms the digest of its state again from the records, in the background, to find
	// memory that changed by itself. Large states are audited less often: it takes half a percent of one processor at most.
	AuditInterval time.Duration
	// StallTimeout is after how long in one write to the Raft log the disk counts as hanging: the node then stops behaving
	// as a leader. Danger: shorter than the slowest write of a disk that works.
	StallTimeout time.Duration

	// EnableFaults lets drills make the node misbehave (Inject). Never where data matters.
	EnableFaults bool
	// Failpoint is called at each step of a replacement with the step's name; it may block. Nil: nothing. For tests.
	Failpoint func(step string)
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		HeartbeatTimeout:  500 * time.Millisecond,
		LeaderLease:       400 * time.Millisecond,
		CommitTimeout:     50 * time.Millisecond,
		RaftTimeout:       5 * time.Second,
		SnapshotInterval:  30 * time.Second,
		SnapshotThreshold: 16384,
		TrailingLogs:      16384,
		MaxProposals:      128,
		MaxQueries:        1024,
		WaitTimeout:       10 * time.Second,
		AuditInterval:     5 * time.Second,
		StallTimeout:      time.Second,
	}
}

// Validate returns what is wrong with the configuration.
func (c *Config) Validate() error {
	if !dems.ValidName(string(c.ID)) {
		return fmt.Errorf("node ID %q: 1 to 32 of a-z, 0-9 and hyphen, beginning with a letter", c.ID)
	}
	if _, ok := c.Peers[c.ID]; !ok {
		return fmt.Errorf("the peers do not include node %s itself", c.ID)
	}
	for id, address := range c.Peers {
		if !dems.ValidName(string(id)) || address == "" || len(address) > dems.MaxNameBytes {
			return fmt.Errorf("peer %q at %q: an ID and HOST:PORT are needed", id, address)
		}
	}
	switch {
	case c.DataDir == "":
		return errors.New("a data folder is needed")
	case len(c.Cities) == 0 || len(c.Cities) > dems.MaxCities:
		return fmt.Errorf("%d cities: at least 1, at most %d", len(c.Cities), dems.MaxCities)
	case c.Endpoint == nil:
		return errors.New("an endpoint is needed")
	case len(c.Address) > dems.MaxNameBytes || len(c.Version) > dems.MaxNameBytes:
		return fmt.Errorf("address and version have at most %d bytes", dems.MaxNameBytes)
	case c.LeaderLease > c.HeartbeatTimeout || c.LeaderLease < 5*time.Millisecond:
		return errors.New("the leader's lease is at least 5 ms and at most the heartbeat timeout")
	case c.CommitTimeout <= 0 || c.RaftTimeout <= 0 || c.SnapshotInterval <= 0 || c.WaitTimeout <= 0 ||
		c.AuditInterval <= 0 || c.StallTimeout <= 0:
		return errors.New("every timeout and interval is positive")
	case c.SnapshotThreshold == 0 || c.MaxProposals <= 0 || c.MaxQueries <= 0:
		return errors.New("every limit is positive")
	}
	return nil
}

// peers returns the IDs of the other nodes, in order.
func (c *Config) peers() []dems.NodeID {
	var ids []dems.NodeID
	for id := range c.Peers {
		if id != c.ID {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// majority is how many of the configured nodes are more than half of them.
func (c *Config) majority() int { return len(c.Peers)/2 + 1 }
