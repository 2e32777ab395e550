package frontend

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxBodyBytes is the largest request body, in bytes. The largest that makes sense has under 300; the rest is room for
// whitespace and escapes.
const maxBodyBytes = 64 << 10

// maxRetainedBytes is the largest buffer that is kept for the next request, in bytes, so that one long list does not
// stay in memory for ever.
const maxRetainedBytes = 64 << 10

// retryAfterSeconds is what Retry-After says: about one election, after which a second try is worth its while.
const retryAfterSeconds = "1"

// RESTConfig is the configuration of the REST layer. A field that is zero has its default.
type RESTConfig struct {
	// Logger gets panics and internal errors (Error) and a line for each request (Debug). Default: nothing is logged.
	Logger *slog.Logger
	// Registry gets the metrics of the REST layer and is what /metrics shows. One registry serves one handler: a second
	// would register the same metrics again, which panics. Default: a registry of its own.
	Registry *prometheus.Registry
	// Deadline is how long a request may take once its body is read. Default 10 s. Too short, and a request that has to
	// wait for an election ends as indeterminate although it was applied.
	Deadline time.Duration
	// MaxInFlight is how many requests under /v1 may be in progress at once; one more is answered rate_limited. Default
	// 4096. Each may hold a body of 64 KiB, so 4096 bound the bodies to 256 MiB.
	MaxInFlight int
	// ReadHeaderTimeout is how long the head of a request may take to arrive. Default 5 s.
	ReadHeaderTimeout time.Duration
	// ReadTimeout is how long a whole request may take to arrive. Default 10 s. It is what ends a client that sends its
	// body a byte at a time.
	ReadTimeout time.Duration
	// WriteTimeout is how long a client may take to read its response, in addition to ReadTimeout and Deadline. Default
	// 20 s: the longest list passes over a slow line.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection is kept open without a request. Default 2 min.
	IdleTimeout time.Duration
	// MaxHeaderBytes is the largest head of a request, in bytes; net/http allows 4096 more. Default 16 KiB.
	MaxHeaderBytes int
	// EnableFaults has /v1/faults served, for drills: whoever reaches the front end can then make nodes misbehave that were
	// started for drills, too. Default false.
	EnableFaults bool
	// Now is the clock that stamps commands and measures requests. Default time.Now.
	Now func() time.Time
}

// withDefaults returns the configuration with every zero field set.
func (c RESTConfig) withDefaults() RESTConfig {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	setDefault(&c.Deadline, 10*time.Second)
	setDefault(&c.MaxInFlight, 4096)
	setDefault(&c.ReadHeaderTimeout, 5*time.Second)
	setDefault(&c.ReadTimeout, 10*time.Second)
	setDefault(&c.WriteTimeout, 20*time.Second)
	setDefault(&c.IdleTimeout, 2*time.Minute)
	setDefault(&c.MaxHeaderBytes, 16<<10)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate says what is wrong with a configuration. Zero fields are fine.
func (c RESTConfig) Validate() error {
	var wrong []error
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"Deadline", int64(c.Deadline)},
		{"MaxInFlight", int64(c.MaxInFlight)},
		{"ReadHeaderTimeout", int64(c.ReadHeaderTimeout)},
		{"ReadTimeout", int64(c.ReadTimeout)},
		{"WriteTimeout", int64(c.WriteTimeout)},
		{"IdleTimeout", int64(c.IdleTimeout)},
		{"MaxHeaderBytes", int64(c.MaxHeaderBytes)},
	} {
		if field.value < 0 {
			wrong = append(wrong, fmt.Errorf("REST configuration: %s is negative", field.name))
		}
	}
	return errors.Join(wrong...)
}

// NewServer returns an HTTP server with every limit of the configuration set. What net/http refuses before a handler
// sees it (a broken request line, a head that is too large, an unknown Expect) is answered by net/http in plain text.
func NewServer(handler http.Handler, config RESTConfig) *http.Server {
	config = config.withDefaults()
	return &http.Server{
		Handler:                      handler,
		ReadHeaderTimeout:            config.ReadHeaderTimeout,
		ReadTimeout:                  config.ReadTimeout,
		WriteTimeout:                 config.ReadTimeout + config.Deadline + config.WriteTimeout,
		IdleTimeout:                  config.IdleTimeout,
		MaxHeaderBytes:               config.MaxHeaderBytes,
		ErrorLog:                     slog.NewLogLogger(config.Logger.Handler(), slog.LevelDebug),
		DisableGeneralOptionsHandler: true,
	}
}
