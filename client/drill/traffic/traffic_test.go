package traffic

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"dems"
	"dems/client/drill/history"
)

func TestConfig(t *testing.T) {
	w := newWire(t)
	good := Config{API: w.client(t, 0), Recorder: history.NewRecorder(0)}
	if err := good.withDefaults().validate(); err != nil {
		t.Error(err)
	}
	if c := good.withDefaults(); c.Clients != 24 || c.Rate != 400 || c.GroupOperations != 250 {
		t.Errorf("%+v", c)
	}
	for text, spoil := range map[string]func(*Config){
		"no client":             func(c *Config) { c.API = nil },
		"no recorder":           func(c *Config) { c.Recorder = nil },
		"clients: 2 to 1024":    func(c *Config) { c.Clients = 1 },
		"clients: 2":            func(c *Config) { c.Clients = 1025 },
		"rate: at most":         func(c *Config) { c.Rate = 1e6 },
		"operations of a group": func(c *Config) { c.GroupOperations = -1 },
	} {
		config := good
		spoil(&config)
		if _, err := Prepare(t.Context(), config); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestPrepareChangesNothing(t *testing.T) {
	w := newWire(t)
	prepared(t, w, nil)
	if w.cluster.Applied() != 0 {
		t.Errorf("%d commands were applied", w.cluster.Applied())
	}
}

func TestPrepareSaysWhatIsMissing(t *testing.T) {
	for text, planted := range map[string]func(*http.Request, forwardTo) *http.Response{
		"cities cannot be learned": func(*http.Request, forwardTo) *http.Response { return answerOf(500, `{"code":"internal"}`) },
		"knows no cities":          func(*http.Request, forwardTo) *http.Response { return answerOf(200, `{}`) },
		"cannot be listed": func(request *http.Request, forward forwardTo) *http.Response {
			if request.URL.Path == "/v1/events/seminar" {
				return answerOf(401, `{"code":"unauthenticated"}`)
			}
			return forward(request)
		},
	} {
		w := newWire(t)
		w.planted = planted
		config := Config{API: w.client(t, time.Second), Recorder: history.NewRecorder(0)}
		if _, err := Prepare(t.Context(), config); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestCrews: how clients are divided, and that none is forgotten.
func TestCrews(t *testing.T) {
	for clients, want := range map[int]struct {
		contended []int // sizes
		unique    []int
	}{
		2:  {[]int{1}, []int{1}},
		3:  {[]int{1}, []int{2}},
		4:  {[]int{2}, []int{2}},
		8:  {[]int{2, 2}, []int{4}},
		24: {[]int{4, 4, 4}, []int{4, 4, 4}},
		30: {[]int{4, 4, 4}, []int{4, 4, 4, 4, 2}},
	} {
		traffic, _ := prepared(t, newWire(t), func(c *Config) { c.Clients = clients })
		var contended, unique []int
		numbers := make(map[int]bool)
		for _, crew := range traffic.crews {
			sizes := &unique
			if crew.pairs != nil {
				sizes = &contended
			}
			*sizes = append(*sizes, len(crew.workers))
			for _, w := range crew.workers {
				numbers[w.number] = true
			}
		}
		if !cmp.Equal(contended, want.contended) || !cmp.Equal(unique, want.unique) || len(numbers) != clients || len(traffic.workers) != clients {
			t.Errorf("%d clients: contended %v, unique %v, %d numbers", clients, contended, unique, len(numbers))
		}
	}
}

// TestTheSeedRepeatsTheLoad: each client asks for the same, as long as the answers are the same.
func TestTheSeedRepeatsTheLoad(t *testing.T) {
	run := func(t *testing.T, seed uint64) map[int][]dems.Command {
		w := newWire(t)
		w.delay = time.Millisecond
		traffic, recorder := prepared(t, w, func(c *Config) { c.Clients, c.Seed = 2, seed })
		runOnly(t, w, traffic, 1500)
		byClient := make(map[int][]dems.Command)
		for _, operation := range recorder.Operations() {
			if len(byClient[operation.Client]) < 600 {
				operation.Command.Key = ""
				byClient[operation.Client] = append(byClient[operation.Client], operation.Command)
			}
		}
		return byClient
	}
	synctest.Test(t, func(t *testing.T) {
		first, again, another := run(t, 7), run(t, 7), run(t, 8)
		if len(first) != 2 || len(first[0]) != 600 || len(first[1]) != 600 {
			t.Fatalf("%d and %d operations", len(first[0]), len(first[1]))
		}
		if difference := cmp.Diff(first, again); difference != "" {
			t.Errorf("the same seed (-first +again):\n%s", difference)
		}
		if cmp.Equal(first[0], another[0]) || cmp.Equal(first[1], another[1]) {
			t.Error("another seed asks for the same")
		}
	})
}

// TestKeys: every mutation has its own key, in two runs of one seed as well; reads have none.
func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := make(map[string]bool)
		for range 2 {
			w := newWire(t)
			w.delay = time.Millisecond
			traffic, recorder := prepared(t, w, nil)
			runOnly(t, w, traffic, 1000)
			for _, operation := range recorder.Operations() {
				key := operation.Command.Key
				if operation.Command.Op.Mutates() != dems.ValidKey(key) || key != "" && keys[key] {
					t.Fatalf("%+v", operation)
				}
				keys[key] = key != ""
			}
		}
	})
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pace{interval: 10 * time.Millisecond}
		count := func(length time.Duration) int {
			ctx, cancel := context.WithTimeout(t.Context(), length)
			defer cancel()
			begun := 0
			for p.wait(ctx) {
				begun++
			}
			return begun
		}
		behind := int(mostBehind / p.interval)
		if begun := count(10 * time.Second); begun < 1000 || begun > 1001+behind {
			t.Errorf("%d in 10 s", begun)
		}
		pause(t.Context(), time.Hour) // what was not begun then is not made up for
		if begun := count(10 * time.Second); begun < 1000 || begun > 1001+behind {
			t.Errorf("%d in 10 s after an hour", begun)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if p.wait(ended) || (&pace{}).wait(ended) || !(&pace{}).wait(t.Context()) {
			t.Error("waiting does not depend on the context")
		}
	})
}

// TestMix: the weights are of a hundred, and every kind of command is well-formed.
func TestMix(t *testing.T) {
	weights := 0
	for _, choice := range mix {
		weights += choice.weight
	}
	if weights != 100 {
		t.Errorf("the weights are %d together", weights)
	}
	random := rand.New(rand.NewPCG(1, 2))
	cities := dems.DefaultCities()
	c, err := newCalendar(cities, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for before, share := range apportion([]dems.City{cities[0].City, cities[1].City, cities[2].City}, random.Shuffle) {
		moments, _ := c.span(before)
		g := newContended(newGroup(1), share, moments, contendedCustomersOf([]dems.City{cities[0].City, cities[1].City}, 0, before), random)
		g.rebook = true
		ops, policies := make(map[dems.Op]int), make(map[dems.BookingPolicy]int)
		for range 3000 {
			command := g.next(random)
			ops[command.Op]++
			if code := cities.Check(&command); code != dems.OK {
				t.Fatalf("%+v: %s", command, code)
			}
			if command.Op == dems.RemoveEvent {
				policies[command.Bookings]++
			}
		}
		if len(ops) != 8 || len(policies) != 3 || len(g.events) != momentsOfGroup*3 {
			t.Errorf("%v, %v, %v", ops, policies, g.events)
		}
	}
}
