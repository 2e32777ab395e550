package frontend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"dems"
)

// ReplyMode says when a mutating command is answered.
type ReplyMode string

// The reply modes.
const (
	ReplyMajority ReplyMode = "majority" // when a majority of the nodes got the same result
	ReplyFirst    ReplyMode = "first"    // with the leader's result; the others are compared afterwards
)

// Config configures a Core.
type Config struct {
	// ID names the front end in the registry. Required; see dems.ValidName.
	ID string
	// Address is the URL under which clients reach the front end; it stands in the registry.
	Address string
	// Version is the program's version; it stands in the registry.
	Version string
	// Nodes are the addresses of the cluster's nodes, HOST:PORT. Required. Name all of them: until a majority of them
	// has reported the cluster's configuration, nothing is answered.
	Nodes []string
	// Dial returns the node at an address; it must not block. Required. Replicas that are io.Closers are closed when
	// the Core stops.
	Dial func(address string) Replica
	// Reply defaults to ReplyMajority. With ReplyFirst a client may see a wrong or, after a crash, a lost result.
	Reply ReplyMode
	// BatchesInFlight is how many batches may be on their way at once, 1 to dems.MaxBatchesInFlight; default 1. More
	// make smaller batches.
	BatchesInFlight int
	// Logger is required.
	Logger *slog.Logger
	// Registerer takes the metrics; nil: none are published.
	Registerer prometheus.Registerer
	// Now is the clock that registrations are stamped by; default time.Now.
	Now func() time.Time
}

// validate fills in the defaults and reports what cannot be used.
func (c *Config) validate() error {
	if c.Reply == "" {
		c.Reply = ReplyMajority
	}
	if c.BatchesInFlight == 0 {
		c.BatchesInFlight = 1
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case !dems.ValidName(c.ID):
		return fmt.Errorf("front end ID %q: use 1 to 32 of a-z, 0-9 and hyphen, beginning with a letter", c.ID)
	case len(c.Nodes) == 0:
		return errors.New("no nodes: name every node of the cluster as HOST:PORT")
	case c.Reply != ReplyMajority && c.Reply != ReplyFirst:
		return fmt.Errorf("reply mode %q: use majority or first", c.Reply)
	case c.BatchesInFlight < 1 || c.BatchesInFlight > dems.MaxBatchesInFlight:
		return fmt.Errorf("%d batches in flight: use 1 to %d", c.BatchesInFlight, dems.MaxBatchesInFlight)
	case len(c.Address) > dems.MaxNameBytes || len(c.Version) > dems.MaxNameBytes:
		return fmt.Errorf("address %q, version %q: at most %d bytes each", c.Address, c.Version, dems.MaxNameBytes)
	case c.Dial == nil || c.Logger == nil:
		return errors.New("a dialler and a logger are required")
	}
	for i, address := range c.Nodes {
		switch {
		case address == "" || len(address) > dems.MaxNameBytes:
			return fmt.Errorf("node %q: use HOST:PORT of at most %d bytes", address, dems.MaxNameBytes)
		case slices.Contains(c.Nodes[:i], address):
			return fmt.Errorf("node %s stands twice", address)
		}
	}
	return nil
}

// Core is what stands behind the REST layer. It implements Cluster.
type Core struct {
	config   Config
	members  *members
	proposer *proposer
	reader   *reader
	judge    *judge
	reports  *reporter
	backups  chan struct{} // one token for each backup that is on its way

	backedUpBy atomic.Pointer[node] // who gave the last backup, or some of it

	known  chan struct{} // closed when cities is set
	cities dems.Cities   // never changes once it is known
}

var _ Cluster = (*Core)(nil)

// NewCore returns a front end's core. Nothing happens before Run.
func NewCore(config Config) (*Core, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	metrics := newCoreMetrics(config.Registerer)
	c := &Core{config: config, known: make(chan struct{}), backups: make(chan struct{}, maxBackups), members: newMembers(config.Nodes, config.Dial, config.Logger)}
	c.reports = newReporter(c.members, config.Logger, metrics)
	c.judge = newJudge(c.members, c.reports, &config, metrics)
	c.proposer = newProposer(c.members, &config, metrics, c.judge)
	c.judge.order = c.proposer.order
	c.reader = newReader(c.members, c.proposer, &config, metrics)
	return c, nil
}

// Run connects to the nodes and serves until the context ends; then it answers what is waiting and returns when every
// goroutine of the core has ended.
func (c *Core) Run(ctx context.Context) error {
	// The parts stop in the order proposer and reader, then members, whose connections they use.
	connections, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	defer disconnect()
	var watching sync.WaitGroup
	watching.Go(func() { _ = c.members.run(connections) })
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.proposer.run(groupCtx) })
	group.Go(func() error { return c.reader.run(groupCtx) })
	group.Go(func() error { return c.judge.errands.run(groupCtx) })
	group.Go(func() error { return c.proposer.suspector.errands.run(groupCtx) })
	group.Go(func() error { return c.reports.errands.run(groupCtx) })
	group.Go(func() error { return c.learnCities(groupCtx) })
	err := group.Wait()
	disconnect()
	watching.Wait()
	return err
}

// learnCities reads the cluster's cities from the registry once; they never change.
func (c *Core) learnCities(ctx context.Context) error {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, laneTimeout)
		registry, err := c.Registry(attempt)
		cancel()
		if err == nil && len(registry.Nodes) > 0 {
			c.cities = registry.Cities
			close(c.known)
			return nil
		}
		if !pause(ctx, nil, 5*retryPause) {
			break
		}
	}
	return nil
}

// Cities implements Cluster.
func (c *Core) Cities(ctx context.Context) (dems.Cities, bool) {
	select {
	case <-c.known:
		return c.cities, true
	default:
	}
	select {
	case <-c.known:
		return c.cities, true
	case <-ctx.Done():
	case <-c.reader.ended:
	}
	return nil, false
}

// knowsCities tells whether Cities would return at once.
func (c *Core) knowsCities() bool {
	select {
	case <-c.known:
		return true
	default:
		return false
	}
}

// Do implements Cluster.
func (c *Core) Do(ctx context.Context, command dems.Command) (Reply, error) {
	return c.proposer.do(ctx, command)
}

// Read implements Cluster. Where the data moves too fast for a majority to meet at one version, the read is ordered
// through the log like a write.
func (c *Core) Read(ctx context.Context, command dems.Command) (Reply, error) {
	encoded, reply, err := c.reader.read(ctx, dems.Query{Kind: dems.OperationQuery, Log: true, Command: command})
	if errors.Is(err, errUndecided) {
		c.reader.metrics.ordered.Inc()
		reply, err = c.proposer.do(ctx, command)
		if dems.CodeOf(err) == dems.Indeterminate { // a read leaves nothing behind
			err = &dems.Error{Code: dems.Unavailable}
		}
		return reply, err
	}
	if err != nil {
		return Reply{}, err
	}
	results, err := dems.DecodeResults(encoded)
	if err != nil || len(results) != 1 {
		return Reply{}, &dems.Error{Code: dems.Internal}
	}
	reply.Result = results[0]
	return reply, nil
}

// Registry implements Cluster.
func (c *Core) Registry(ctx context.Context) (dems.Registry, error) {
	encoded, _, err := c.reader.read(ctx, dems.Query{Kind: dems.RegistryQuery})
	for errors.Is(err, errUndecided) { // it changes rarely, so nodes meet soon or there is no majority
		if !pause(ctx, nil, 10*retryPause) {
			return dems.Registry{}, &dems.Error{Code: dems.Unavailable}
		}
		encoded, _, err = c.reader.read(ctx, dems.Query{Kind: dems.RegistryQuery})
	}
	if err != nil {
		return dems.Registry{}, err
	}
	registry, err := dems.DecodeRegistry(encoded)
	if err != nil {
		c.config.Logger.Error("the nodes' registry cannot be read", "error", err)
		return dems.Registry{}, &dems.Error{Code: dems.Internal}
	}
	return registry, nil
}
