// Package cluster runs a whole cluster of real nodes inside one process, for tests: real Raft, real QUIC, real data folders,
// on a network in memory whose links can be cut. Nodes can be stopped, killed as by SIGKILL, and started again.
//
// It owns the nodes, their endpoints, certificates and folders, and starts one goroutine per running node, and those of a front
// end that is asked for. Everything is stopped when the test ends. Methods that wait fail the test when nothing happens for long.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dems"
	"dems/internal/faultnet"
	"dems/node"
	"dems/transport"
)

// patience is how long methods wait before they fail the test.
const patience = 30 * time.Second

// Config says what cluster to make.
type Config struct {
	Nodes  int                            // default 3: n1, n2, n3
	UDP    bool                           // use UDP on the loopback, not the network in memory
	Change func(*node.Config)             // changes each node's configuration before it is opened; may be nil
	Logger func(name string) slog.Handler // where the nodes log to; nil: nowhere
}

// Cluster is a cluster. Its methods are for the goroutine of the test, except those of Network.
type Cluster struct {
	t       testing.TB
	config  Config
	dir     string
	Network *faultnet.Network // nil with UDP
	peers   map[dems.NodeID]string
	members map[dems.NodeID]*life
	front   *transport.Endpoint
	clients map[dems.NodeID]*transport.Replica
}

// Member is one node that runs or has run, in the life that it was in when it was asked for: a node that is replaced gets
// another Node.
type Member struct {
	*node.Node
	*life
}

// life is everything between the start and the end of a node, replacements among it.
type life struct {
	current  atomic.Pointer[node.Node]
	killed   atomic.Bool
	endpoint *transport.Endpoint
	stop     context.CancelFunc
	done     chan struct{} // closed when Run has returned for good
	err      error         // of Run
}

// Done is closed when the node's Run has returned; Err then tells what.
func (l *life) Done() <-chan struct{} { return l.done }

// Err returns what Run returned. It waits for it.
func (l *life) Err() error {
	<-l.done
	return l.err
}

// authority is the folder with the certificates, made once per process: nodes n1 to n5 and the front end fe1.
var authority = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "dems-cluster-")
	if err != nil {
		return "", err
	}
	if err := transport.CreateAuthority(dir); err != nil {
		return "", err
	}
	for number := range 5 {
		if err := transport.Issue(dir, transport.RoleNode, fmt.Sprintf("n%d", number+1)); err != nil {
			return "", err
		}
	}
	return dir, transport.Issue(dir, transport.RoleFrontEnd, "fe1")
})

// Cleanup removes the certificates. TestMain calls it after the tests.
func Cleanup() {
	if dir, err := authority(); err == nil {
		_ = os.RemoveAll(dir)
	}
}

// New makes a cluster without starting its nodes.
func New(t testing.TB, config Config) *Cluster {
	t.Helper()
	if config.Nodes == 0 {
		config.Nodes = 3
	}
	c := &Cluster{
		t: t, config: config, dir: t.TempDir(), peers: make(map[dems.NodeID]string),
		members: make(map[dems.NodeID]*life), clients: make(map[dems.NodeID]*transport.Replica),
	}
	if !config.UDP {
		c.Network = faultnet.New(1)
	}
	for number := range config.Nodes {
		id := dems.NodeID(fmt.Sprintf("n%d", number+1))
		c.peers[id] = string(id) + ":7000"
		if config.UDP {
			socket := c.listen("127.0.0.1:0")
			c.peers[id] = socket.LocalAddr().String()
			socket.Close()
		}
	}
	c.front = c.Endpoint(transport.RoleFrontEnd, "fe1")
	for id := range c.peers {
		c.clients[id] = c.front.Peer(id)
	}
	t.Cleanup(c.close)
	return c
}

// Start makes a cluster, starts all nodes and waits until they can be used.
func Start(t testing.TB, config Config) *Cluster {
	t.Helper()
	c := New(t, config)
	for _, id := range c.IDs() {
		c.StartNode(id)
	}
	for _, id := range c.IDs() {
		c.WaitReady(id)
	}
	c.WaitLeader()
	return c
}

// IDs returns the nodes' IDs in order.
func (c *Cluster) IDs() []dems.NodeID {
	var ids []dems.NodeID
	for id := range c.peers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Address returns a node's address in the network.
func (c *Cluster) Address(id dems.NodeID) string { return c.peers[id] }

// Dir returns a node's data folder.
func (c *Cluster) Dir(id dems.NodeID) string { return filepath.Join(c.dir, string(id)) }

func (c *Cluster) listen(address string) net.PacketConn {
	c.t.Helper()
	var socket net.PacketConn
	var err error
	if c.config.UDP {
		socket, err = net.ListenPacket("udp", address)
	} else {
		socket, err = c.Network.Listen(address)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return socket
}

// Endpoint opens the endpoint of a node or front end that has certificates here. The caller closes it.
func (c *Cluster) Endpoint(role transport.Role, name string) *transport.Endpoint {
	c.t.Helper()
	certificates, err := authority()
	if err != nil {
		c.t.Fatal(err)
	}
	credentials, err := transport.LoadCredentials(certificates, role, name)
	if err != nil {
		c.t.Fatal(err)
	}
	address, ok := c.peers[dems.NodeID(name)]
	if !ok {
		address = name + ":7000"
		if c.config.UDP {
			address = "127.0.0.1:0"
		}
	}
	endpoint, err := transport.Listen(transport.Config{
		Credentials: credentials, PacketConn: c.listen(address), Logger: c.logger(name),
		StatelessResetKeyFile: filepath.Join(c.dir, name+".reset"), Faulty: role == transport.RoleNode, Nodes: c.IDs(),
		Resolve: func(id dems.NodeID) (string, bool) {
			address, ok := c.peers[id]
			return address, ok
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return endpoint
}

func (c *Cluster) logger(name string) *slog.Logger {
	if c.config.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(c.config.Logger(name)).With("on", name)
}

// NodeConfig returns the configuration that a node is started with, without an endpoint.
func (c *Cluster) NodeConfig(id dems.NodeID) node.Config {
	config := node.DefaultConfig()
	config.ID, config.DataDir, config.Peers, config.Cities = id, c.Dir(id), c.peers, dems.DefaultCities()
	config.Version, config.Logger = "test", c.logger(string(id))
	// Short enough for tests of elections, long enough for the race detector on a busy machine.
	config.HeartbeatTimeout, config.LeaderLease = 250*time.Millisecond, 250*time.Millisecond
	if c.config.Change != nil {
		c.config.Change(&config)
	}
	return config
}

// StartNode starts a node that is not running and returns it.
func (c *Cluster) StartNode(id dems.NodeID) *Member {
	c.t.Helper()
	member, err := c.TryStartNode(id)
	if err != nil {
		c.t.Fatalf("start %s: %v", id, err)
	}
	return member
}

// TryStartNode is StartNode for nodes that may refuse to start.
func (c *Cluster) TryStartNode(id dems.NodeID) (*Member, error) {
	c.t.Helper()
	config := c.NodeConfig(id)
	config.Endpoint = c.Endpoint(transport.RoleNode, string(id))
	n, err := node.Open(c.t.Context(), config)
	if err != nil {
		return nil, errors.Join(err, config.Endpoint.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{endpoint: config.Endpoint, stop: cancel, done: make(chan struct{})}
	l.current.Store(n)
	go func() {
		l.err = l.run(ctx, config)
		close(l.done)
	}()
	c.members[id] = l
	return &Member{n, l}, nil
}

// run runs a node. One that is replaced is emptied and opened again, as demsd does it.
func (l *life) run(ctx context.Context, config node.Config) error {
	for {
		err := l.current.Load().Run(ctx)
		replaced, ok := errors.AsType[*node.Replaced](err)
		if !ok || l.killed.Load() {
			return err
		}
		if err := node.Empty(ctx, config, replaced); err != nil {
			return err
		}
		n, err := node.Open(ctx, config)
		if err != nil {
			return err
		}
		l.current.Store(n)
		if l.killed.Load() {
			n.Kill()
		}
	}
}

// Kill ends the node as a crash would.
func (m *Member) Kill() { m.kill() }

func (l *life) kill() {
	l.killed.Store(true)
	l.current.Load().Kill()
}

// Node returns a node that was started.
func (c *Cluster) Node(id dems.NodeID) *Member {
	l := c.members[id]
	if l == nil {
		return nil
	}
	return &Member{l.current.Load(), l}
}

// StopNode stops a node in order.
func (c *Cluster) StopNode(id dems.NodeID) {
	c.t.Helper()
	if err := c.end(id); err != nil {
		c.t.Errorf("stop %s: %v", id, err)
	}
}

// KillNode ends a node as SIGKILL would.
func (c *Cluster) KillNode(id dems.NodeID) {
	c.t.Helper()
	c.members[id].kill()
	if err := c.end(id); !errors.Is(err, node.ErrKilled) {
		c.t.Errorf("kill %s: %v", id, err)
	}
}

// DropNode forgets a node whose Run has returned, or will: with what is up to the test.
func (c *Cluster) DropNode(id dems.NodeID) error {
	c.t.Helper()
	return c.end(id)
}

// end ends a node and its endpoint.
func (c *Cluster) end(id dems.NodeID) error {
	member := c.members[id]
	if member == nil {
		return nil
	}
	delete(c.members, id)
	member.stop()
	err := member.Err()
	return errors.Join(err, member.endpoint.Close())
}

// Replica returns a client of a node, as a front end has it.
func (c *Cluster) Replica(id dems.NodeID) *transport.Replica { return c.clients[id] }

func (c *Cluster) close() {
	for _, member := range c.members { // all at once, then wait
		member.stop()
	}
	for _, id := range c.IDs() {
		if err := c.end(id); err != nil && !errors.Is(err, node.ErrKilled) {
			c.t.Errorf("%s: %v", id, err)
		}
	}
	for _, client := range c.clients {
		client.Close()
	}
	if err := c.front.Close(); err != nil {
		c.t.Error(err)
	}
	if c.Network != nil {
		if err := c.Network.Close(); err != nil {
			c.t.Error(err)
		}
	}
}
