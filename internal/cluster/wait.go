package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"dems"
	"dems/transport"
)

// poll is how often conditions are looked at that nobody reports.
const poll = 2 * time.Millisecond

// Eventually waits until check returns nil.
func (c *Cluster) Eventually(what string, check func(ctx context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	var last error // of a check that the end of ctx did not break off, if there was one
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("%s: %v", what, last)
		case <-ticker.C:
		}
	}
}

// Status returns what a running node says of itself.
func (c *Cluster) Status(id dems.NodeID) dems.NodeStatus {
	c.t.Helper()
	status, err := c.Node(id).Status(c.t.Context())
	if err != nil {
		c.t.Fatalf("status of %s: %v", id, err)
	}
	return status
}

// WaitReady waits until a node answers reads.
func (c *Cluster) WaitReady(id dems.NodeID) {
	c.t.Helper()
	c.Eventually(fmt.Sprintf("%s becomes ready", id), func(context.Context) error {
		if status := c.Status(id); !status.Ready || status.Fresh {
			return fmt.Errorf("%+v", status)
		}
		return nil
	})
}

// follows returns the leader that a running node knows, "" where it knows none or is between two lives.
func (c *Cluster) follows(ctx context.Context, id dems.NodeID) dems.NodeID {
	status, err := c.Node(id).Status(ctx)
	if err != nil {
		return ""
	}
	return status.Leader
}

// WaitLeader waits until a majority of the running nodes knows the same leader, which runs, and returns its ID.
func (c *Cluster) WaitLeader() dems.NodeID {
	c.t.Helper()
	var leader dems.NodeID
	c.Eventually("a leader", func(ctx context.Context) error {
		counts := make(map[dems.NodeID]int)
		for id := range c.members {
			counts[c.follows(ctx, id)]++
		}
		for id, count := range counts {
			if c.members[id] != nil && count > len(c.peers)/2 {
				leader = id
				return nil
			}
		}
		return fmt.Errorf("nodes follow %v", counts)
	})
	return leader
}

// WaitApplied waits until a node has applied an index.
func (c *Cluster) WaitApplied(id dems.NodeID, index uint64) {
	c.t.Helper()
	c.Eventually(fmt.Sprintf("%s applies %d", id, index), func(context.Context) error {
		if applied := c.Status(id).Applied; applied < index {
			return fmt.Errorf("applied %d", applied)
		}
		return nil
	})
}

// Propose has an entry ordered, asking one leader after another, and returns the leader's reply.
func (c *Cluster) Propose(entry []byte) dems.BatchReply {
	c.t.Helper()
	var reply dems.BatchReply
	c.Eventually("a proposal succeeds", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		for id := range c.members {
			if c.follows(ctx, id) == id {
				var err error
				reply, err = c.clients[id].Propose(ctx, entry)
				if refused, ok := errors.AsType[*dems.ReplicaError](err); ok && refused.Kind == dems.BadRequest {
					c.t.Fatal(err)
				}
				return err
			}
		}
		return errors.New("no leader")
	})
	return reply
}

// OpenSession registers a front end with a session of that number.
func (c *Cluster) OpenSession(session uint64) dems.BatchReply {
	c.t.Helper()
	return c.Propose(Registration("fe1", session))
}

// Registration returns the entry that registers a front end with a session.
func Registration(id string, session uint64) []byte {
	return dems.AppendEntry(nil, &dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{
		ID: id, Address: "http://" + id, Version: "test", Time: time.UnixMilli(1), Session: session,
	}})
}

// CityLog returns all ordered records of a city on a node.
func CityLog(ctx context.Context, from transport.Handler, city dems.City) ([]byte, error) {
	var all []byte
	for first := uint64(0); ; {
		page, err := from.CityLog(ctx, city, first, 1<<20)
		if err != nil {
			return nil, err
		}
		if len(page.Records) == 0 {
			if first != page.Total {
				return nil, fmt.Errorf("record %d of %d is missing", first, page.Total)
			}
			return all, nil
		}
		all = append(all, page.Records...)
		first += uint64(bytes.Count(page.Records, []byte{'\n'}))
	}
}

// WaitEqual waits until all running nodes have applied everything and have equal city logs. It fails the test at once if
// two nodes have different states at one index.
func (c *Cluster) WaitEqual() {
	c.t.Helper()
	c.Eventually("equal states", c.equalStates)
	c.Eventually("equal city logs", c.equalLogs)
}

func (c *Cluster) equalStates(context.Context) error {
	digests := make(map[uint64]dems.NodeStatus)
	for _, id := range c.IDs() {
		if c.members[id] == nil {
			continue
		}
		status := c.Status(id)
		if other, found := digests[status.Applied]; found && other.Digest != status.Digest {
			c.t.Fatalf("at index %d %s has digest %s, %s has %s", status.Applied, other.ID, other.Digest, id, status.Digest)
		}
		digests[status.Applied] = status
	}
	if len(digests) > 1 {
		return fmt.Errorf("different indexes: %v", digests)
	}
	return nil
}

func (c *Cluster) equalLogs(ctx context.Context) error {
	for _, named := range dems.DefaultCities() {
		var first []byte
		var from dems.NodeID
		for id := range c.members {
			records, err := CityLog(ctx, c.Node(id), named.City)
			if err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			if from == "" {
				first, from = records, id
			}
			if !bytes.Equal(records, first) {
				return fmt.Errorf("%s of %s has %d bytes, of %s %d", named.City, from, len(first), id, len(records))
			}
		}
	}
	return nil
}
