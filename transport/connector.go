package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"dems"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

var errClosed = errors.New("closed")

// connection is a dialled connection to a node that has shown its certificate.
type connection struct {
	quic *quic.Conn
	node dems.NodeID       // from the certificate
	http *http3.ClientConn // RPC only
}

// connector holds one connection to one node for one protocol: it dials when a connection is asked for and there is none
// that lives. However many ask, one dial is under way at a time.
type connector struct {
	endpoint *Endpoint
	protocol string
	node     dems.NodeID // "" = any node
	address  func() (string, error)
	ctx      context.Context // ends with close
	cancel   context.CancelFunc

	mutex   sync.Mutex
	current *connection
	dialing *dialing
}

// dialing is a dial under way. The result may be read once done is closed.
type dialing struct {
	done       chan struct{}
	connection *connection
	err        error
}

func newConnector(endpoint *Endpoint, protocol string, node dems.NodeID, address func() (string, error)) *connector {
	c := &connector{endpoint: endpoint, protocol: protocol, node: node, address: address}
	c.ctx, c.cancel = context.WithCancel(endpoint.ctx)
	return c
}

// get returns a connection that lives as far as is known, dialling if need be.
func (c *connector) get(ctx context.Context) (*connection, error) {
	c.mutex.Lock()
	if c.current != nil && c.current.quic.Context().Err() == nil {
		defer c.mutex.Unlock()
		return c.current, nil
	}
	attempt := c.dialing
	if attempt == nil {
		attempt = &dialing{done: make(chan struct{})}
		if c.ctx.Err() != nil || !c.endpoint.start(func() { c.dial(attempt) }) {
			c.mutex.Unlock()
			return nil, errClosed
		}
		c.dialing = attempt
	}
	c.mutex.Unlock()
	select {
	case <-attempt.done:
		return attempt.connection, attempt.err
	case <-ctx.Done():
		return nil, fmt.Errorf("not yet connected: %w", ctx.Err())
	}
}

// discard forgets a connection that turned out to be of no use.
func (c *connector) discard(broken *connection) {
	c.mutex.Lock()
	if c.current == broken {
		c.current = nil
	}
	c.mutex.Unlock()
	closeConnection(broken.quic)
}

// close ends the connection and lets none be made again.
func (c *connector) close() {
	c.cancel()
	c.mutex.Lock()
	current := c.current
	c.current = nil
	c.mutex.Unlock()
	if current != nil {
		closeConnection(current.quic)
	}
}

func (c *connector) dial(attempt *dialing) {
	connection, err := c.connect()
	c.mutex.Lock()
	c.dialing = nil
	if err == nil && c.ctx.Err() != nil {
		err = errClosed
		defer closeConnection(connection.quic)
	}
	if err == nil {
		c.current, attempt.connection = connection, connection
	} else {
		attempt.err = err
	}
	c.mutex.Unlock()
	close(attempt.done)
}

const (
	// dialAgain is after how long without an answer the node is dialled once more, beside the attempts under way. QUIC waits
	// twice as long each time before it sends a packet again, and so notices late that the network has healed.
	dialAgain = 250 * time.Millisecond
	// maxAttempts is how many attempts are under way at once: enough for the standard DialTimeout.
	maxAttempts = 8
)

// connect dials, again and again while no answer comes. The first attempt that comes to an end decides.
func (c *connector) connect() (*connection, error) {
	type outcome struct {
		connection *connection
		err        error
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.endpoint.config.DialTimeout)
	var attempts sync.WaitGroup
	defer attempts.Wait()
	defer cancel()
	first, decided := make(chan outcome), make(chan struct{})
	defer close(decided)
	ticker := time.NewTicker(dialAgain)
	defer ticker.Stop()
	for number := 1; ; number++ {
		if number == maxAttempts {
			ticker.Stop()
		}
		attempts.Go(func() {
			connection, err := c.attempt(ctx)
			select {
			case first <- outcome{connection, err}:
			case <-decided:
				if err == nil {
					closeConnection(connection.quic)
				}
			}
		})
		select {
		case got := <-first:
			if got.err == nil {
				c.endpoint.start(func() { keepAlive(got.connection.quic, c.endpoint.config.KeepAlivePeriod) })
			}
			return got.connection, got.err
		case <-ticker.C:
		}
	}
}

// attempt dials and waits until the node has accepted this server's certificate.
func (c *connector) attempt(ctx context.Context) (*connection, error) {
	config := &c.endpoint.config
	address, err := c.address()
	if err != nil {
		return nil, err
	}
	remote, err := resolveAddress(ctx, config.PacketConn, address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	dialled, err := c.endpoint.transport.Dial(ctx, remote, config.Credentials.clientTLS(c.protocol, c.node), config.quicConfig(true))
	if err != nil {
		if errors.Is(err, quic.ErrTransportClosed) { // not net.ErrClosed: a peer that does not answer is that, too
			c.endpoint.fail(err)
		}
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return nil, fmt.Errorf("connect to %s: no answer within %v", address, config.DialTimeout)
		}
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	if !c.endpoint.track(dialled) {
		closeConnection(dialled)
		return nil, errClosed
	}
	connection := &connection{quic: dialled}
	if err := c.confirm(ctx, connection); err != nil {
		closeConnection(dialled)
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return connection, nil
}

// keepAliveBytes makes a keep-alive large enough for a stateless reset to answer it: QUIC's own, a ping, is too small, so
// that of a restarted node it would learn nothing.
const keepAliveBytes = 32

// keepAlive sends an empty datagram now and then, which the other end acknowledges and drops, until the connection ends.
func keepAlive(connection *quic.Conn, period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := connection.SendDatagram(make([]byte, keepAliveBytes)); err != nil {
				return
			}
		case <-connection.Context().Done():
			return
		}
	}
}

// confirm learns who the node is, and for RPC waits for its first frame: with TLS 1.3 the dialling side is done before the
// other side has looked at its certificate.
func (c *connector) confirm(ctx context.Context, connection *connection) error {
	_, name, err := identity(connection.quic.ConnectionState().TLS.PeerCertificates[0])
	if err != nil {
		return err
	}
	connection.node = dems.NodeID(name)
	if c.protocol != protocolRPC {
		return nil
	}
	connection.http = c.endpoint.clients.NewClientConn(connection.quic)
	select {
	case <-connection.http.ReceivedSettings():
		return nil
	case <-connection.quic.Context().Done():
		return context.Cause(connection.quic.Context())
	case <-ctx.Done():
		return ctx.Err()
	}
}
