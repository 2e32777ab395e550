package drill

import (
	"strings"
	"testing"
	"time"

	"dems/client/drill/history"
)

func TestConfig(t *testing.T) {
	good := func() Config {
		return Config{Scenario: "pause", Target: networked{}, Endpoints: []string{"http://127.0.0.1:8080"}}
	}
	for name, test := range map[string]struct {
		change func(c *Config)
		said   string // "": nothing is wrong
	}{
		"nothing else":             {func(*Config) {}, ""},
		"all":                      {func(c *Config) { c.Scenario = All }, ""},
		"another scenario":         {func(c *Config) { c.Scenario = "earthquake" }, `"earthquake" is no scenario: leader-kill, `},
		"no target":                {func(c *Config) { c.Target = nil }, "no target"},
		"no endpoint":              {func(c *Config) { c.Endpoints = nil }, "no endpoint"},
		"fewer rounds than none":   {func(c *Config) { c.Rounds = -1 }, "rounds: 1 to 10000"},
		"too many rounds":          {func(c *Config) { c.Rounds = MaxRounds + 1 }, "rounds: 1 to 10000"},
		"too many rounds of all":   {func(c *Config) { c.Scenario, c.Rounds = All, 1251 }, "rounds: 1 to 1250"},
		"a negative duration":      {func(c *Config) { c.Duration = -1 }, "duration: up to 24h"},
		"too long":                 {func(c *Config) { c.Duration = 25 * time.Hour }, "duration: up to 24h"},
		"fewer clients than none":  {func(c *Config) { c.Clients = -1 }, "clients"},
		"a negative rate":          {func(c *Config) { c.Rate = -1 }, "rate: up to 100000"},
		"more than a history":      {func(c *Config) { c.Rate, c.Duration = 400, time.Hour }, "choose a lower rate"},
		"as much as a history has": {func(c *Config) { c.Rate, c.Duration = 250, time.Hour }, ""},
		"a negative timeout":       {func(c *Config) { c.Timeout = -1 }, "timeout"},
	} {
		c := good()
		test.change(&c)
		err := c.Validate()
		if (err == nil) != (test.said == "") || err != nil && !strings.Contains(err.Error(), test.said) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	c := Config{}.withDefaults()
	if c.Rounds != 3 || c.Seed == 0 || c.Rate != DefaultRate || c.Timeout != 10*time.Second || c.Progress == nil || c.Round == nil {
		t.Errorf("%+v", c)
	}
	c = Config{Duration: MaxDuration}.withDefaults()
	if c.Rounds != 0 || c.Rate*c.Duration.Seconds() > history.MaxOperations || c.Rate < 10 {
		t.Errorf("%d rounds, %v operations a second for a day", c.Rounds, c.Rate)
	}
	if c = (Config{Seed: 3, Rounds: 2, Duration: time.Minute, Rate: 7}).withDefaults(); c.Seed != 3 || c.Rounds != 2 || c.Rate != 7 {
		t.Errorf("%+v", c)
	}
	if one, other := NewSeed(), NewSeed(); one == other || one == 0 || one>>53 != 0 {
		t.Errorf("random seeds %d and %d", one, other)
	}
}

func TestScenariosAreDescribed(t *testing.T) {
	for _, name := range Scenarios() {
		if About(name) == "" || name == All {
			t.Errorf("scenario %q is described as %q", name, About(name))
		}
	}
	if About("earthquake") != "" {
		t.Error("what is no scenario is described")
	}
}
