package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"dems"
	"dems/transport/faulty"

	"github.com/hashicorp/raft"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// expiryWarning is how long before a certificate expires Listen begins to warn of it.
const expiryWarning = 60 * 24 * time.Hour

// Endpoint is a server's socket: it dials nodes, and a node's endpoint accepts connections. It is safe for concurrent use.
type Endpoint struct {
	config    Config
	transport *quic.Transport
	listener  *quic.Listener // nil for front ends: nobody dials them
	server    *http3.Server
	clients   *http3.Transport // makes HTTP/3 of dialled connections
	handler   atomic.Pointer[Handler]
	network   *faulty.Network // nil: it has no faults

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup // every goroutine of the endpoint; Close waits for them
	closing sync.Once
	failing sync.Once
	failed  chan struct{}

	mutex       sync.Mutex
	closed      bool
	connections map[*quic.Conn]struct{}
	accepted    int
	raft        *raftLayer
}

// Listen opens an endpoint. A front end's endpoint accepts nothing: it only dials.
func Listen(config Config) (*Endpoint, error) {
	if config.PacketConn == nil {
		return nil, errors.New("transport: a socket is needed")
	}
	endpoint, err := listen(config)
	if err != nil {
		config.PacketConn.Close()
		return nil, err
	}
	return endpoint, nil
}

func listen(config Config) (*Endpoint, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	resetKey, err := loadResetKey(config.StatelessResetKeyFile)
	if err != nil {
		return nil, err
	}
	prepareSocket(config.PacketConn, config.Logger)
	e := &Endpoint{
		config:      config,
		transport:   &quic.Transport{Conn: config.PacketConn, StatelessResetKey: resetKey},
		clients:     &http3.Transport{DisableCompression: true, MaxResponseHeaderBytes: maxHeaderBytes},
		failed:      make(chan struct{}),
		connections: make(map[*quic.Conn]struct{}),
	}
	if config.Faulty {
		e.network = faulty.New(config.PacketConn, config.Nodes, e.locate, config.Logger)
		e.transport.Conn = e.network.Conn()
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.server = &http3.Server{Handler: newServiceHandler(e), MaxHeaderBytes: maxHeaderBytes, ConnContext: withCaller}
	if left := time.Until(config.Credentials.NotAfter()); left < expiryWarning {
		config.Logger.Warn("the certificate expires soon; afterwards no new connection succeeds",
			slog.String("name", config.Credentials.name), slog.Time("expires", config.Credentials.NotAfter()))
	}
	if config.Credentials.role != RoleNode {
		return e, nil
	}
	e.listener, err = e.transport.Listen(config.Credentials.serverTLS(), config.quicConfig(false))
	if err != nil {
		e.cancel()
		e.transport.Close()
		e.closeNetwork()
		return nil, fmt.Errorf("transport: listen on %s: %w", config.PacketConn.LocalAddr(), err)
	}
	e.start(e.accept)
	return e, nil
}

// Serve starts to answer RPCs with handler; before it they are refused as NotReady. On a front end's endpoint it has no
// effect.
func (e *Endpoint) Serve(handler Handler) { e.handler.Store(&handler) }

// Addr returns the local address.
func (e *Endpoint) Addr() net.Addr { return e.config.PacketConn.LocalAddr() }

// Failed is closed when the socket broke: nothing reaches this server any more, and it should stop.
func (e *Endpoint) Failed() <-chan struct{} { return e.failed }

// RaftLayer returns Raft's view of the endpoint for one incarnation of the node, in the cluster that descends from a backup;
// streams that are meant for another incarnation, or come from another cluster, are refused. What is dialled is a node's ID and
// incarnation, as in n2.1. Peers' streams go to the layer returned last; an earlier one is closed.
func (e *Endpoint) RaftLayer(incarnation uint64, origin dems.Origin) raft.StreamLayer {
	layer := newRaftLayer(e, incarnation, origin)
	e.mutex.Lock()
	previous, closed := e.raft, e.closed
	e.raft = layer
	e.mutex.Unlock()
	if previous != nil {
		previous.Close()
	}
	if closed {
		layer.Close()
	}
	return layer
}

// Replica returns a client of the node at HOST:PORT, whichever it is. The caller keeps it and closes it.
func (e *Endpoint) Replica(address string) *Replica {
	return newReplica(e, "", func() (string, error) { return address, nil })
}

// Peer returns a client of the node with that ID, whose address is asked of Config.Resolve whenever it connects. The
// caller keeps it and closes it.
func (e *Endpoint) Peer(id dems.NodeID) *Replica {
	return newReplica(e, id, func() (string, error) { return e.resolve(id) })
}

func (e *Endpoint) resolve(id dems.NodeID) (string, error) {
	address, ok := e.config.Resolve(id)
	if !ok {
		return "", fmt.Errorf("no address is known for node %q", id)
	}
	return address, nil
}

// Close stops accepting, ends every connection and with it the contexts of handlers, closes the socket, and waits for
// every goroutine. Calls in flight fail with UnknownOutcome.
func (e *Endpoint) Close() error {
	e.closing.Do(func() {
		e.mutex.Lock()
		e.closed = true
		layer := e.raft
		open := make([]*quic.Conn, 0, len(e.connections))
		for connection := range e.connections {
			open = append(open, connection)
		}
		e.mutex.Unlock()
		e.cancel()
		if e.listener != nil {
			e.listener.Close()
		}
		// Connections before the streams on them: a peer that learns of a stream's end dials again at once, and must
		// not do it on a connection that is about to end.
		for _, connection := range open {
			closeConnection(connection)
		}
		if layer != nil {
			layer.Close()
		}
		e.transport.Close()
		e.closeNetwork()
		e.config.PacketConn.Close()
	})
	e.running.Wait()
	return nil
}

// closeConnection tells the peer that the connection was closed on purpose.
func closeConnection(connection *quic.Conn) {
	code := quic.ApplicationErrorCode(0)
	if connection.ConnectionState().TLS.NegotiatedProtocol == protocolRPC {
		code = quic.ApplicationErrorCode(http3.ErrCodeNoError)
	}
	connection.CloseWithError(code, "closing")
}

// start runs f in a goroutine that Close waits for. It returns false, and runs nothing, after Close.
func (e *Endpoint) start(f func()) bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.closed {
		return false
	}
	e.running.Go(f)
	return true
}

// fail records that the socket is of no use any more.
func (e *Endpoint) fail(err error) {
	if e.ctx.Err() != nil {
		return
	}
	e.failing.Do(func() {
		e.config.Logger.Error("the UDP socket failed; nothing reaches this server any more",
			slog.Any("address", e.Addr()), slog.Any("error", err))
		close(e.failed)
	})
}

func (e *Endpoint) accept() {
	for {
		connection, err := e.listener.Accept(e.ctx)
		if err != nil {
			e.fail(err)
			return
		}
		if !e.admit(connection) {
			closeConnection(connection)
		}
	}
}

// admit starts to serve an accepted connection.
func (e *Endpoint) admit(connection *quic.Conn) bool {
	e.mutex.Lock()
	if e.closed || e.accepted >= maxConnections {
		e.mutex.Unlock()
		return false
	}
	e.accepted++
	e.connections[connection] = struct{}{}
	e.running.Go(func() {
		if connection.ConnectionState().TLS.NegotiatedProtocol == protocolRaft {
			e.serveRaft(connection)
		} else if err := e.server.ServeQUICConn(connection); err != nil {
			e.config.Logger.Debug("connection ended", slog.Any("peer", connection.RemoteAddr()), slog.Any("error", err))
		}
		closeConnection(connection)
		e.mutex.Lock()
		e.accepted--
		delete(e.connections, connection)
		e.mutex.Unlock()
	})
	e.mutex.Unlock()
	return true
}

// serveRaft hands the streams of a peer to the open Raft layer; without one it refuses them.
func (e *Endpoint) serveRaft(connection *quic.Conn) {
	for {
		stream, err := connection.AcceptStream(e.ctx)
		if err != nil {
			return
		}
		e.mutex.Lock()
		layer := e.raft
		e.mutex.Unlock()
		if layer == nil || !layer.deliver(connection, stream) {
			stream.CancelRead(streamRefused)
			stream.CancelWrite(streamRefused)
		}
	}
}

// track adds a dialled connection to those that Close ends; false: the endpoint is closed.
func (e *Endpoint) track(connection *quic.Conn) bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.closed {
		return false
	}
	e.connections[connection] = struct{}{}
	context.AfterFunc(connection.Context(), func() {
		e.mutex.Lock()
		delete(e.connections, connection)
		e.mutex.Unlock()
	})
	return true
}
