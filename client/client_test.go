package client_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dems"
	"dems/client"
	"dems/internal/onenode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// system is a cluster with front ends and a client that knows all of them.
type system struct {
	*client.Client
	cluster   *onenode.Cluster
	frontEnds []*onenode.FrontEnd
}

// start returns a system with that many front ends; change may alter the client's configuration.
func start(t *testing.T, user string, frontEnds int, change func(*client.Config)) *system {
	t.Helper()
	cluster, err := onenode.NewCluster()
	if err != nil {
		t.Fatal(err)
	}
	s := &system{cluster: cluster}
	config := client.DefaultConfig()
	config.Endpoints = nil
	config.User = userID(t, user)
	config.MinBackoff, config.MaxBackoff = time.Millisecond, 4*time.Millisecond
	for _, id := range []string{"fe1", "fe2", "fe3"}[:frontEnds] {
		frontEnd, err := onenode.Start(cluster, id)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(frontEnd.Close)
		s.frontEnds = append(s.frontEnds, frontEnd)
		config.Endpoints = append(config.Endpoints, frontEnd.URL)
	}
	if change != nil {
		change(&config)
	}
	s.Client = newClient(t, config)
	return s
}

func newClient(t *testing.T, config client.Config) *client.Client {
	t.Helper()
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func userID(t *testing.T, text string) dems.UserID {
	t.Helper()
	if text == "" {
		return dems.UserID{}
	}
	id, ok := dems.ParseUserID(text)
	if !ok {
		t.Fatalf("%q is no user ID", text)
	}
	return id
}

func eventKey(t *testing.T, eventType dems.EventType, text string) dems.EventKey {
	t.Helper()
	id, ok := dems.ParseEventID(text)
	if !ok {
		t.Fatalf("%q is no event ID", text)
	}
	return dems.EventKey{Type: eventType, ID: id}
}

// deadEndpoint returns the URL of a server that is no more.
func deadEndpoint() string {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	return server.URL
}

// wantError checks an error's code and returns it.
func wantError(t *testing.T, err error, code dems.Code) *client.Error {
	t.Helper()
	failed, ok := errors.AsType[*client.Error](err)
	if !ok {
		t.Fatalf("error %v (%T), want a *client.Error with code %s", err, err, code)
	}
	if failed.Code != code {
		t.Fatalf("code %s (%v), want %s", failed.Code, failed, code)
	}
	return failed
}

func TestConfigurationIsChecked(t *testing.T) {
	for name, change := range map[string]func(*client.Config){
		"no endpoint":        func(c *client.Config) { c.Endpoints = nil },
		"no scheme":          func(c *client.Config) { c.Endpoints = []string{"127.0.0.1:8080"} },
		"other scheme":       func(c *client.Config) { c.Endpoints = []string{"ftp://host"} },
		"no host":            func(c *client.Config) { c.Endpoints = []string{"http://"} },
		"query":              func(c *client.Config) { c.Endpoints = []string{"http://host?a=b"} },
		"password":           func(c *client.Config) { c.Endpoints = []string{"http://a:b@host"} },
		"unprintable token":  func(c *client.Config) { c.Token = "a\nb" },
		"malformed user":     func(c *client.Config) { c.User.City = dems.City{'T', 'O', 'R'} },
		"negative time":      func(c *client.Config) { c.Timeout = -1 },
		"negative size":      func(c *client.Config) { c.MaxResponseBytes = -1 },
		"one bad among good": func(c *client.Config) { c.Endpoints = []string{"http://a", "b"} },
	} {
		config := client.DefaultConfig()
		change(&config)
		if _, err := client.New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, endpoint := range map[string]string{"https": "https://host", "port": "http://[::1]:80/", "prefix": "http://host/dems", "blanks": " http://host "} {
		if _, err := client.New(client.Config{Endpoints: []string{endpoint}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysDiffer(t *testing.T) {
	keys := make(map[string]bool)
	for range 1000 {
		key := client.NewKey()
		if !dems.ValidKey(key) {
			t.Fatalf("%q is no valid key", key)
		}
		keys[key] = true
	}
	if len(keys) != 1000 {
		t.Errorf("%d different keys of 1000", len(keys))
	}
}

func TestErrorsUnwrapToTheDomainsErrorAndTheCause(t *testing.T) {
	cause := errors.New("cause")
	err := error(&client.Error{Code: dems.EventFull, Detail: "Every seat is taken.", Err: cause})
	if dems.CodeOf(err) != dems.EventFull {
		t.Errorf("code %s", dems.CodeOf(err))
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if want := "event_full: Every seat is taken. (cause)"; err.Error() != want {
		t.Errorf("reads %q, want %q", err, want)
	}
}

func TestIdentity(t *testing.T) {
	s := start(t, "TORM0001", 1, nil)
	if _, err := s.ListEventAvailability(t.Context(), dems.Seminar); err != nil {
		t.Fatal(err)
	}
	if _, err := s.As(userID(t, "OTWM0002")).ListEventAvailability(t.Context(), dems.Seminar); err != nil {
		t.Fatal(err)
	}
	_, err := s.As(dems.UserID{}).ListEventAvailability(t.Context(), dems.Seminar)
	wantError(t, err, dems.Unauthenticated)
	var users []string
	for _, request := range s.frontEnds[0].Requests() {
		users = append(users, request.User)
	}
	if want := []string{"TORM0001", "OTWM0002"}; !slices.Equal(users, want) {
		t.Errorf("users %v, want %v and nothing from nobody", users, want)
	}
}

func TestTokenGoesInsteadOfTheHeader(t *testing.T) {
	s := start(t, "TORM0001", 1, func(c *client.Config) { c.Token = "secret" })
	_, err := s.ListEventAvailability(t.Context(), dems.Seminar)
	wantError(t, err, dems.Unauthenticated) // this front end knows no tokens
	if request := s.frontEnds[0].Requests()[0]; request.Token != "Bearer secret" || request.User != "" {
		t.Errorf("sent token %q and user %q", request.Token, request.User)
	}
}

func TestRedirectionsAreNotFollowed(t *testing.T) {
	followed := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	c := newClient(t, client.Config{Endpoints: []string{server.URL}, User: userID(t, "TORM0001")})
	_, err := c.ListEventAvailability(t.Context(), dems.Seminar)
	wantError(t, err, dems.Unavailable)
	if followed {
		t.Error("the identity was sent elsewhere")
	}
}
