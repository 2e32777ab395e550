package drill

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"dems/client"
	"dems/client/drill/history"
	"dems/client/drill/report"
	"dems/client/drill/target"
)

// Config is the configuration of a drill.
type Config struct {
	// Scenario is one of Scenarios, or All.
	Scenario string
	// Target is the processes of the cluster that the endpoints lead to.
	Target target.Cluster
	// Endpoints are the URLs of front ends whose authentication is off.
	Endpoints []string
	// Rounds is how many rounds each scenario has, all together at most MaxRounds. Default 3; with a Duration, as many as fit.
	Rounds int
	// Duration is how long rounds are begun, at most MaxDuration; 0: until there were Rounds. What was begun is finished.
	Duration time.Duration
	// Seed decides who is broken when, and what the clients ask for. 0: a random one.
	Seed uint64
	// Clients is how many clients there are, each with one request at a time. 0: the default of package traffic.
	Clients int
	// Rate is how many operations begin in a second, by all clients together. 0: DefaultRate, or less where a Duration would
	// have more operations than a history holds.
	Rate float64
	// Timeout is how long one operation may take with all its retries before it counts as failed or unknown. Default 10 s.
	Timeout time.Duration
	// Keep is the folder that gets history.jsonl, report.json and report.html. It must not exist, or be empty.
	Keep string
	// Version is that of the program, for the report; Command is the command line that runs the drill again.
	Version, Command string
	// Progress gets how far the drill is, about every second, and Round each round when it has ended. Both are called by one
	// goroutine at a time and must not take long. Nil: nobody is told.
	Progress func(Progress)
	Round    func(report.Round)
}

// Limits of a drill.
const (
	// MaxRounds is how many rounds there are at most, those of all scenarios together.
	MaxRounds = 10_000
	// MaxDuration is how long rounds are begun at most.
	MaxDuration = 24 * time.Hour
	// DefaultRate is how many operations begin in a second unless something else is asked for.
	DefaultRate = 400
	// MaxRate is how many may be asked for.
	MaxRate = 100_000
	// defaultRounds is how many rounds a scenario has where nothing is said.
	defaultRounds = 3
	// mostOfHistory is how many operations rounds may take that end by the clock: the rest is for what comes before and after.
	mostOfHistory = history.MaxOperations * 9 / 10
)

// Progress is how far a drill is.
type Progress struct {
	Elapsed  time.Duration
	Scenario string // of the round; "" before the first one and after the last one
	Round    int    // counts the rounds of all scenarios, from 1
	Rounds   int    // in all; 0: as many as fit into the duration
	Doing    string // for people: "killed the leader n2"
	// PerSecond is how many operations were answered in the last second, Failed how many failed or were given up so far.
	PerSecond float64
	Failed    uint64
	Leader    string // "" where none is known
}

// Validate says what is wrong with a configuration. Zero fields that have a default are fine.
func (c Config) Validate() error {
	var wrong []error
	check := func(ok bool, format string, arguments ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf("drill: "+format, arguments...))
		}
	}
	check(c.Scenario == All || slices.Contains(Scenarios(), c.Scenario), "%q is no scenario: %s or %s", c.Scenario, strings.Join(Scenarios(), ", "), All)
	check(c.Target != nil, "no target")
	check(len(c.Endpoints) > 0, "no endpoint")
	most := MaxRounds / max(1, len(chosen(c.Scenario)))
	check(c.Rounds >= 0 && c.Rounds <= most, "rounds: 1 to %d", most)
	check(c.Duration >= 0 && c.Duration <= MaxDuration, "duration: up to %v", MaxDuration)
	check(c.Clients >= 0, "clients: more than none")
	check(c.Rate >= 0 && c.Rate <= MaxRate, "rate: up to %d a second", MaxRate)
	check(c.Rate*c.Duration.Seconds() <= mostOfHistory, "%v operations a second for %v are more than the %d that a history holds; choose a lower rate or a shorter duration",
		c.Rate, c.Duration, mostOfHistory)
	check(c.Timeout >= 0, "timeout: above zero")
	return errors.Join(wrong...)
}

func (c Config) withDefaults() Config {
	if c.Rounds == 0 && c.Duration == 0 {
		c.Rounds = defaultRounds
	}
	if c.Seed == 0 {
		c.Seed = NewSeed()
	}
	if c.Rate == 0 {
		c.Rate = DefaultRate
		if seconds := c.Duration.Seconds(); seconds > 0 {
			c.Rate = min(c.Rate, mostOfHistory/seconds)
		}
	}
	if c.Timeout == 0 {
		c.Timeout = client.DefaultConfig().Timeout
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	if c.Round == nil {
		c.Round = func(report.Round) {}
	}
	return c
}

// NewSeed returns a random seed.
func NewSeed() uint64 {
	for {
		if seed := rand.Uint64() >> 11; seed != 0 { // what every reader of JSON takes for the same number
			return seed
		}
	}
}
