package client

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"dems"
)

// Config is the configuration of a Client.
type Config struct {
	// Endpoints are the URLs of front ends, as in http://127.0.0.1:8080, in the order in which they are tried. At least
	// one.
	Endpoints []string
	// User is who asks: it is sent as the header Dems-User where there is no token, and names the user log. The zero user
	// is nobody, for what needs no identity.
	User dems.UserID
	// Token is sent as a bearer token. "" where authentication is off.
	Token string
	// Timeout is how long one operation may take with all its retries, unless its context ends earlier. Default 10 s.
	// Shorter than an election (some seconds on bad days), and operations fail that would have succeeded.
	Timeout time.Duration
	// AttemptTimeout is how long one front end may take while another one could be asked. Default 3 s. The last one that
	// is left to ask gets all the time there is.
	AttemptTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause after every front end was asked in vain: it doubles from one to the other
	// and is shortened at random by up to a half. Defaults 50 ms and 1 s.
	MinBackoff, MaxBackoff time.Duration
	// MaxResponseBytes is the largest answer that is read. Default 64 MiB, the most that a node sends.
	MaxResponseBytes int64
	// LearnEndpoints: front ends seen in the registry, by Client.Registry, are asked where all of Endpoints fail. Default
	// off: the token then goes only where the configuration says.
	LearnEndpoints bool
	// UserLog is where operations are recorded; nil: nowhere.
	UserLog *UserLog
	// Logger gets retries (Info) and user log records that could not be written (Warn). Default: nothing is logged.
	Logger *slog.Logger
	// RoundTripper replaces the HTTP transport. Default: one of the client's own, for any number of connections.
	RoundTripper http.RoundTripper
}

// DefaultConfig returns the configuration for a front end on this machine.
func DefaultConfig() Config {
	return Config{
		Endpoints:        []string{"http://127.0.0.1:8080"},
		Timeout:          10 * time.Second,
		AttemptTimeout:   3 * time.Second,
		MinBackoff:       50 * time.Millisecond,
		MaxBackoff:       time.Second,
		MaxResponseBytes: 64 << 20,
		Logger:           slog.New(slog.DiscardHandler),
	}
}

// Validate says what is wrong with a configuration. Zero fields that have a default are fine.
func (c Config) Validate() error {
	var wrong []error
	if len(c.Endpoints) == 0 {
		wrong = append(wrong, errors.New("client: no endpoint; give the URL of a front end"))
	}
	for _, endpoint := range c.Endpoints {
		if _, err := normalEndpoint(endpoint); err != nil {
			wrong = append(wrong, err)
		}
	}
	if c.User != (dems.UserID{}) && !validUser(c.User) {
		wrong = append(wrong, errors.New("client: the user is not a well-formed user ID"))
	}
	if strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		wrong = append(wrong, errors.New("client: the token holds characters that a header cannot"))
	}
	for _, limit := range []int64{int64(c.Timeout), int64(c.AttemptTimeout), int64(c.MinBackoff), int64(c.MaxBackoff), c.MaxResponseBytes} {
		if limit < 0 {
			wrong = append(wrong, errors.New("client: a time or a size is negative"))
		}
	}
	return errors.Join(wrong...)
}

// Client asks front ends. It is safe for concurrent use.
type Client struct {
	*connection
	user dems.UserID
}

// connection is what the clients of several users share.
type connection struct {
	config    Config
	http      *http.Client
	own       *http.Transport // nil where the configuration brought a RoundTripper
	endpoints *endpoints
}

// New returns a client. It connects when it is first used.
func New(config Config) (*Client, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	defaults := DefaultConfig()
	setDefault(&config.Timeout, defaults.Timeout)
	setDefault(&config.AttemptTimeout, defaults.AttemptTimeout)
	setDefault(&config.MinBackoff, defaults.MinBackoff)
	setDefault(&config.MaxBackoff, defaults.MaxBackoff)
	setDefault(&config.MaxResponseBytes, defaults.MaxResponseBytes)
	if config.Logger == nil {
		config.Logger = defaults.Logger
	}
	shared := &connection{config: config, endpoints: newEndpoints(config.Endpoints)}
	roundTripper := config.RoundTripper
	if roundTripper == nil {
		shared.own = newTransport()
		roundTripper = shared.own
	}
	shared.http = &http.Client{
		Transport: roundTripper,
		// An identity is sent to nobody but who was named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Client{connection: shared, user: config.User}, nil
}

// As returns a client for another user that shares everything else with this one. It is meant for where authentication
// is off: a token stays what it is.
func (c *Client) As(user dems.UserID) *Client { return &Client{connection: c.connection, user: user} }

// User returns who asks.
func (c *Client) User() dems.UserID { return c.user }

// Close closes idle connections. Operations in progress go on.
func (c *Client) Close() error {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
	return nil
}

func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		MaxIdleConns:           0,    // no limit in all: idle connections are few unless operations are many
		MaxIdleConnsPerHost:    4096, // as many as a front end serves at once
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        4 << 10,
		ReadBufferSize:         16 << 10,
		DisableCompression:     true, // what comes is what was limited
		ForceAttemptHTTP2:      true,
	}
}

// NewKey returns a new idempotency key: 130 random bits.
func NewKey() string { return rand.Text() }

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// normalEndpoint checks the URL of a front end and returns it without blanks around it and without a slash at the end.
func normalEndpoint(endpoint string) (string, error) {
	endpoint = strings.TrimSpace(endpoint) // lists are written with blanks after the commas, too
	parsed, err := url.Parse(endpoint)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return "", fmt.Errorf("endpoint %q: write a URL with http or https and a host, as in http://127.0.0.1:8080", endpoint)
	}
	if parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" {
		return "", fmt.Errorf("endpoint %q: a front end's URL has no user, query or fragment", endpoint)
	}
	return strings.TrimRight(endpoint, "/"), nil
}
