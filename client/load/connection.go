package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	maxHeadLineBytes = 8 << 10  // the longest line of an answer's head
	maxHeadLines     = 100      // of an answer
	maxBodyBytes     = 64 << 20 // of an answer
)

// endpoint is where a front end is.
type endpoint struct {
	address string // HOST:PORT
	host    string // for the header Host
	prefix  string // of every path
	tls     *tls.Config
}

func parseEndpoint(text string, config *tls.Config) (endpoint, error) {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Hostname() == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return endpoint{}, fmt.Errorf("endpoint %q: write a URL with http or https and a host, as in http://127.0.0.1:8080", text)
	}
	e := endpoint{host: parsed.Host, prefix: strings.TrimRight(parsed.EscapedPath(), "/")}
	port := parsed.Port()
	if parsed.Scheme == "https" {
		setDefault(&port, "443")
		e.tls = &tls.Config{}
		if config != nil {
			e.tls = config.Clone()
		}
		setDefault(&e.tls.ServerName, parsed.Hostname())
		e.tls.NextProtos = []string{"http/1.1"}
	}
	setDefault(&port, "80")
	e.address = net.JoinHostPort(parsed.Hostname(), port)
	return e, nil
}

// connection is one persistent HTTP/1.1 connection with at most one request at a time. It knows as much of HTTP as
// answers of front ends need: a length or chunks, and no redirection.
type connection struct {
	conn    net.Conn
	reader  *bufio.Reader
	body    []byte // of the last answer; used again for the next
	unwatch func() bool
	closing bool // the front end closes it after this answer
}

// dial opens a connection, which fails at once when ctx ends.
func dial(ctx context.Context, to *endpoint, timeout time.Duration) (*connection, error) {
	dialContext, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var (
		conn net.Conn
		err  error
	)
	if to.tls != nil {
		conn, err = (&tls.Dialer{Config: to.tls}).DialContext(dialContext, "tcp", to.address)
	} else {
		conn, err = (&net.Dialer{}).DialContext(dialContext, "tcp", to.address)
	}
	if err != nil {
		return nil, err
	}
	return &connection{
		conn:   conn,
		reader: bufio.NewReaderSize(conn, maxHeadLineBytes),
		unwatch: context.AfterFunc(ctx, func() {
			conn.SetDeadline(time.Unix(1, 0)) // wakes who reads or writes; that it fails means that it is closed
		}),
	}, nil
}

func (c *connection) close() {
	c.unwatch()
	c.conn.Close()
}

// roundTrip sends a request and returns the answer's status and body, which is valid until the next call. After an error
// the connection is of no use.
func (c *connection) roundTrip(ctx context.Context, request []byte, deadline time.Time) (status int, body []byte, err error) {
	if err := c.conn.SetDeadline(deadline); err != nil {
		return 0, nil, err
	}
	if err := ctx.Err(); err != nil { // it ended before the deadline was set, which undid what AfterFunc did
		return 0, nil, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return 0, nil, err
	}
	return c.answer()
}

// answer reads one answer.
func (c *connection) answer() (status int, body []byte, err error) {
	line, err := c.line()
	if err != nil {
		return 0, nil, err
	}
	// HTTP/1.1 201 Created
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, nil, errors.New("the answer is not HTTP/1.1")
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, errors.New("the answer has no status")
	}
	length, chunked := int64(-1), false
	for lines := 0; ; lines++ {
		if line, err = c.line(); err != nil {
			return 0, nil, err
		}
		if len(line) == 0 {
			break
		}
		if lines == maxHeadLines {
			return 0, nil, errors.New("the answer's head is too long")
		}
		if value, ok := header(line, "content-length"); ok {
			if length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return 0, nil, errors.New("the answer's length is no number")
			}
		} else if value, ok := header(line, "transfer-encoding"); ok {
			chunked = bytes.EqualFold(value, []byte("chunked"))
		} else if value, ok := header(line, "connection"); ok {
			c.closing = c.closing || bytes.EqualFold(value, []byte("close"))
		}
	}
	body, err = c.readBody(length, chunked)
	return status, body, err
}

// line reads a line without its end. It is valid until the next read.
func (c *connection) line() ([]byte, error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// header returns the value of a header line, if it has that name; the name is in lower case.
func header(line []byte, name string) ([]byte, bool) {
	if len(line) <= len(name) || line[len(name)] != ':' {
		return nil, false
	}
	for i := range len(name) {
		letter := line[i]
		if letter >= 'A' && letter <= 'Z' {
			letter += 'a' - 'A'
		}
		if letter != name[i] {
			return nil, false
		}
	}
	return bytes.TrimSpace(line[len(name)+1:]), true
}

func (c *connection) readBody(length int64, chunked bool) ([]byte, error) {
	if chunked {
		return c.readChunks()
	}
	if length < 0 || length > maxBodyBytes {
		return nil, errors.New("the answer's body has no length, or too great a one")
	}
	if int64(cap(c.body)) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	_, err := io.ReadFull(c.reader, c.body)
	return c.body, err
}

func (c *connection) readChunks() ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(httputil.NewChunkedReader(c.reader), maxBodyBytes+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxBodyBytes {
		return nil, errors.New("the answer's body is too great")
	}
	for { // what follows the last chunk: trailers, which nobody sends, and an empty line
		line, err := c.line()
		if err != nil || len(line) == 0 {
			return body, err
		}
	}
}
