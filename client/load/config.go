package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// Mix says which operations make up the load.
type Mix string

// The mixes.
const (
	Book  Mix = "book"  // bookings; where every customer has booked an event, cancellations, and so on in turns
	Read  Mix = "read"  // schedules and single events, half and half
	Mixed Mix = "mixed" // half of each
)

// Config is the configuration of a load.
type Config struct {
	// Endpoints are the URLs of front ends; the connections are spread over them.
	Endpoints []string
	// Connections is how many connections there are, each with one request at a time. Default 64.
	Connections int
	// Duration is how long the load lasts, without the warm-up. Default 10 s.
	Duration time.Duration
	// Operations is after how many operations the load ends, if that is earlier; 0: it does not count. The warm-up is not
	// counted.
	Operations uint64
	// Warmup is how long operations are done before any is counted. 0: none.
	Warmup time.Duration
	// Rate is how many operations begin in a second on all connections together, as evenly as possible. 0: each
	// connection goes on as soon as it has its answer. With a rate, an operation that begins late because all
	// connections wait is measured from when it was due.
	Rate float64
	// Mix is what is done. Default Book.
	Mix Mix
	// Events is how many events there are. Default 1000.
	Events int
	// Customers is how many customers of each city take part, 1 to 10,000. Default 10,000. With few, bookings and
	// cancellations of one customer may overtake each other and are then refused.
	Customers int
	// WithoutKeys: bookings carry no idempotency key.
	WithoutKeys bool
	// Keep: the events are not removed afterwards.
	Keep bool
	// Timeout is how long an answer may take. Default 10 s.
	Timeout time.Duration
	// Seed decides which dates, events and customers are taken. 0: a random one.
	Seed uint64
	// Progress gets what was done so far, every second; nil: nobody does.
	Progress func(Progress)
	// TLS is for https endpoints; nil: the system's authorities are trusted.
	TLS *tls.Config
}

// Progress is what was done so far, warm-up included.
type Progress struct {
	Elapsed    time.Duration
	Operations uint64 // that succeeded
	Second     uint64 // of these, in the last second
	Refusals   uint64
	Failures   uint64
}

func (c Config) withDefaults() Config {
	setDefault(&c.Connections, 64)
	setDefault(&c.Duration, 10*time.Second)
	setDefault(&c.Mix, Book)
	setDefault(&c.Events, 1000)
	setDefault(&c.Customers, maxCustomers)
	setDefault(&c.Timeout, 10*time.Second)
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Limits of a load.
const (
	maxCustomers   = 10_000 // four digits
	maxConnections = 16_384 // a machine's file descriptors
	maxEvents      = 100_000
)

// Validate says what is wrong with a configuration. Zero fields that have a default are fine.
func (c Config) Validate() error {
	var wrong []error
	check := func(ok bool, format string, arguments ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf("load: "+format, arguments...))
		}
	}
	check(len(c.Endpoints) > 0, "no endpoint")
	check(c.Connections >= 0 && c.Connections <= maxConnections, "connections: 1 to %d", maxConnections)
	check(c.Events >= 0 && c.Events <= maxEvents, "events: 1 to %d", maxEvents)
	check(c.Customers >= 0 && c.Customers <= maxCustomers, "customers: 1 to %d", maxCustomers)
	check(c.Duration >= 0 && c.Warmup >= 0 && c.Timeout >= 0, "a time is negative")
	check(c.Rate >= 0 && c.Rate <= 1e6, "rate: 0 to 1000000 a second")
	check(c.Mix == "" || c.Mix == Book || c.Mix == Read || c.Mix == Mixed, "mix: book, read or mixed")
	return errors.Join(wrong...)
}
