package traffic

import (
	"errors"
	"fmt"

	"dems/client"
	"dems/client/drill/history"
)

// Config is the configuration of the traffic.
type Config struct {
	// API is a client without a user. Its timeout is how long one operation may take before its outcome counts as unknown and
	// it is asked for again.
	API *client.Client
	// Recorder gets every operation.
	Recorder *history.Recorder
	// Clients is how many wait for one answer at a time, 2 to 1024. Default 24.
	Clients int
	// Rate is how many operations begin in a second, by all clients together. Less than 0: each client goes on as soon as it
	// has its answer. Default 400.
	Rate float64
	// Seed decides what is asked for, as far as that does not depend on answers.
	Seed uint64
	// GroupOperations is after about how many operations a contended group is closed and the next begins. Default 250. The
	// longer a history, the longer it takes to judge it.
	GroupOperations int
}

// Limits of the traffic.
const (
	leastClients        = 2 // one for each kind of group
	mostClients         = 1024
	mostRate            = 100_000
	mostGroupOperations = 10_000
)

func (c Config) withDefaults() Config {
	setDefault(&c.Clients, 24)
	setDefault(&c.Rate, 400)
	setDefault(&c.GroupOperations, 250)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate says what is wrong with a configuration that has its defaults.
func (c Config) validate() error {
	var wrong []error
	check := func(ok bool, format string, arguments ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf("traffic: "+format, arguments...))
		}
	}
	check(c.API != nil, "no client")
	check(c.Recorder != nil, "no recorder")
	check(c.Clients >= leastClients && c.Clients <= mostClients, "clients: %d to %d", leastClients, mostClients)
	check(c.Rate <= mostRate, "rate: at most %d a second; below 0 for as fast as answers come", mostRate)
	check(c.GroupOperations > 0 && c.GroupOperations <= mostGroupOperations, "operations of a group: 1 to %d", mostGroupOperations)
	return errors.Join(wrong...)
}
