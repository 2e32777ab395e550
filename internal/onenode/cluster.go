// Package onenode is a front end over one state machine in memory: what clients are tested against. REST layer and rules are
// the real ones; ordering is a mutex, and nothing is voted on. Its nodes n1, n2 and n3, of which n3 is down, are names in the
// configuration: they can be replaced, and told to misbehave, which changes no answer. It can be told to fail: with a code,
// by cutting a connection before or after a request is applied, or by not answering.
//
// It starts no goroutine but those of net/http's test server, which Close ends.
package onenode

import (
	"context"
	"fmt"
	"sync"
	"time"

	"dems"
	"dems/frontend"
	"dems/fsm"
)

// session is the one that all commands are proposed in: the first that is opened.
const session = 1

// Cluster is one state machine. It implements frontend.Cluster and is safe for concurrent use. Several front ends may
// share it.
type Cluster struct {
	mu       sync.Mutex
	machine  *fsm.Machine
	sessions uint64 // opened so far
	batches  uint64
	leader   dems.NodeID
	records  map[dems.City][][]byte
	failing  []dems.Code     // what the next operations are answered with
	applied  int             // mutating commands that reached the state machine, replays included
	waiting  []chan struct{} // closed when the next one has been applied
	faults   map[dems.NodeID]dems.Fault
}

// NewCluster returns a cluster with the default cities and the nodes n1, n2 and n3 registered.
func NewCluster() (*Cluster, error) {
	c := &Cluster{
		machine: fsm.New(dems.DefaultCities()), leader: "n1", records: make(map[dems.City][][]byte),
		faults: make(map[dems.NodeID]dems.Fault),
	}
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	members := []dems.Member{
		{ID: "n1", Incarnation: 1, Suffrage: dems.Voter}, {ID: "n2", Incarnation: 1, Suffrage: dems.Voter},
		{ID: down, Incarnation: 2, Suffrage: dems.Voter},
	}
	if err := c.configure(members); err != nil {
		return nil, err
	}
	for number, member := range members {
		registration := dems.Registration{
			ID: string(member.ID), Address: fmt.Sprintf("127.0.0.1:%d", 7001+number), Version: "v1", Time: when,
			Incarnation: member.Incarnation, Cities: dems.DefaultCities().String(),
		}
		if _, err := c.apply(dems.Entry{Kind: dems.RegisterNodeEntry, Registration: registration}); err != nil {
			return nil, err
		}
	}
	return c, c.register("fe0", "http://127.0.0.1:9", when) // nobody is there: it opens the session
}

// register puts a front end into the registry.
func (c *Cluster) register(id, address string, when time.Time) error {
	c.sessions++
	_, err := c.apply(dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{
		ID: id, Address: address, Version: "v1", Time: when, Session: c.sessions,
	}})
	return err
}

// apply applies an entry. The caller holds the mutex or is the only one.
func (c *Cluster) apply(entry dems.Entry) (fsm.Applied, error) {
	applied, err := c.machine.Apply(c.machine.Index()+1, dems.AppendEntry(nil, &entry))
	if err == nil && applied.Refused != "" {
		err = &refusedError{applied.Refused}
	}
	for _, record := range applied.Records {
		c.records[record.City] = append(c.records[record.City], record.Line)
	}
	return applied, err
}

// refusedError is why the state machine refused an entry that is no batch.
type refusedError struct{ reason string }

func (e *refusedError) Error() string { return "entry refused: " + e.reason }

// Fail has the next operations fail with these codes, one after the other, without being applied; dems.OK lets one through.
func (c *Cluster) Fail(codes ...dems.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing = append(c.failing, codes...)
}

// Applied returns how many mutating commands reached the state machine, replays included.
func (c *Cluster) Applied() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.applied
}

// NextApplied returns a channel that is closed when the next mutating command has been applied.
func (c *Cluster) NextApplied() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(chan struct{})
	c.waiting = append(c.waiting, next)
	return next
}

// failure returns the error that the next operation is to get. The caller holds the mutex.
func (c *Cluster) failure() error {
	if len(c.failing) == 0 {
		return nil
	}
	code := c.failing[0]
	c.failing = c.failing[1:]
	if code == dems.OK {
		return nil
	}
	return &dems.Error{Code: code}
}

// Cities implements frontend.Cluster.
func (c *Cluster) Cities(context.Context) (dems.Cities, bool) { return dems.DefaultCities(), true }

// Do implements frontend.Cluster.
func (c *Cluster) Do(_ context.Context, command dems.Command) (frontend.Reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failure(); err != nil {
		return frontend.Reply{}, err
	}
	c.applied++
	c.batches++
	applied, err := c.apply(dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
		Session: session, Number: c.batches, Commands: []dems.Command{command},
	}})
	for _, next := range c.waiting {
		close(next)
	}
	c.waiting = nil
	if err != nil {
		return frontend.Reply{}, err
	}
	return reply(applied.Results)
}

// Read implements frontend.Cluster.
func (c *Cluster) Read(_ context.Context, command dems.Command) (frontend.Reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failure(); err != nil {
		return frontend.Reply{}, err
	}
	answer := c.machine.Query(&dems.Query{Kind: dems.OperationQuery, Command: command})
	read, err := reply(answer.Result)
	read.Sequence = c.machine.Index()
	return read, err
}

func reply(encoded []byte) (frontend.Reply, error) {
	results, err := dems.DecodeResults(encoded)
	if err == nil && len(results) != 1 {
		err = fmt.Errorf("%d results for one command", len(results))
	}
	if err != nil {
		return frontend.Reply{}, err
	}
	return frontend.Reply{Result: results[0], Sequence: results[0].Sequence, Agreeing: 3, Asked: 3}, nil
}

// Registry implements frontend.Cluster.
func (c *Cluster) Registry(context.Context) (dems.Registry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failure(); err != nil {
		return dems.Registry{}, err
	}
	return c.machine.Registry(), nil
}

// Transfer implements frontend.Cluster: "" hands over to n2.
func (c *Cluster) Transfer(_ context.Context, to dems.NodeID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch to {
	case "":
		to = "n2"
	case "n1", "n2", "n3":
	default:
		return &dems.Error{Code: dems.NotFound}
	}
	c.leader = to
	return nil
}

// pageRecords is how many records a page of a city log has.
const pageRecords = 2

// CityLog implements frontend.Cluster.
func (c *Cluster) CityLog(_ context.Context, city dems.City, first uint64) (dems.CityLogPage, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failure(); err != nil {
		return dems.CityLogPage{}, err
	}
	all := c.records[city]
	page := dems.CityLogPage{First: first, Total: uint64(len(all))}
	for number := first; number < min(first+pageRecords, page.Total); number++ {
		page.Records = append(page.Records, all[number]...)
	}
	return page, nil
}

// Checks implements frontend.Cluster.
func (c *Cluster) Checks(context.Context) []frontend.Check { return nil }
