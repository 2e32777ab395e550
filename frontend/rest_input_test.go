package frontend

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"dems"
)

// badCall is a call that must be refused with a code.
type badCall struct {
	name string
	call call
	want dems.Code
}

// with returns a copy of a call, changed.
func (c call) with(change func(*call)) call {
	c.headers = slices.Clone(c.headers)
	change(&c)
	return c
}

// badCalls returns everything that is wrong with variants of a route's valid call, one thing wrong at a time.
func badCalls(name string, r *route) []badCall {
	valid := validCalls[name]
	bad := badAddresses(name, valid)
	bad = append(bad, badQueries(name, r, valid)...)
	if r.access == forUsers {
		bad = append(bad, badUsers(name, valid)...)
	}
	if r.op.Mutates() {
		bad = append(bad, badKeys(name, valid)...)
	}
	if r.fields != nil {
		bad = append(bad, badMedia(name, valid)...)
		bad = append(bad, badBodies(name, r, valid)...)
		if name == "injectFault" { // no body can have all of its fields
			bad = append(bad, badFields(name, r, valid.with(func(c *call) {
				c.body = `{"node":"n2","kind":"latency","milliseconds":20,"jitterMilliseconds":9,"peers":["n1"],"direction":"both","lastsMilliseconds":7}`
			}))...)
		}
		return append(bad, badFields(name, r, valid)...)
	}
	for _, body := range []string{"{}", " ", "x", valid.body + strings.Repeat("y", 100_000)} {
		for _, chunked := range []bool{false, true} {
			bad = append(bad, badCall{fmt.Sprintf("%s with a body of %d bytes, chunked %v", name, len(body), chunked),
				valid.with(func(c *call) { c.body, c.chunked = body, chunked }), dems.MalformedRequest})
		}
	}
	return bad
}

func badAddresses(name string, valid call) (bad []badCall) {
	path, query, _ := strings.Cut(valid.target, "?")
	for _, other := range []string{path + "/", path + "//", "/" + path, "/.." + path, "/%2F" + path, strings.ToUpper(path),
		strings.Replace(path, "/v1/", "/v1//", 1), strings.Replace(path, "/v1/", "/v1%2F", 1), strings.Replace(path, "/v1/", "/v1/./", 1)} {
		target := other
		if query != "" {
			target += "?" + query
		}
		if other != path {
			bad = append(bad, badCall{name + " at " + target, valid.with(func(c *call) { c.target = target }), dems.NotFound})
		}
	}
	return bad
}

func badQueries(name string, r *route, valid call) (bad []badCall) {
	path, _, _ := strings.Cut(valid.target, "?")
	queries := []string{"surprise=1", "surprise", "=", "&", "%zz=1", "surprise=%", "a=1;b=2", "%00", "eventID=TORM100519", "name[]=go_goroutines"}
	for _, parameter := range r.parameters {
		queries = append(queries, parameter+"=true&"+parameter+"=true", parameter+"=1&surprise=1", strings.ToUpper(parameter)+"=1",
			parameter+"=1&", parameter+"=%", parameter+"&"+parameter, parameter+"=%zz")
	}
	for _, query := range queries {
		bad = append(bad, badCall{name + "?" + query, valid.with(func(c *call) { c.target = path + "?" + query }), dems.MalformedRequest})
	}
	values := []string{"", "%20", "no", "%FF", "-1", "1.5", "18446744073709551616", "0x10", "+1", "TRUE", strings.Repeat("9", 5000)}
	for _, parameter := range r.parameters {
		want := dems.MalformedRequest
		if parameter == "eventType" {
			want = dems.InvalidEventType
		}
		for _, value := range values {
			if parameter == "verbose" && value == "" {
				continue
			}
			bad = append(bad, badCall{fmt.Sprintf("%s?%s=%.30s", name, parameter, value),
				valid.with(func(c *call) { c.target = path + "?" + parameter + "=" + value }), want})
		}
	}
	return bad
}

var badUserIDs = []string{"x", "TORX0001", "TORM001", "TORM00001", "NYCC0001", "TORM000A", "T0RM0001", "TORM0001,TORM0002",
	"TÖRM0001", "TORM\xff001", "\"TORM0001\"", strings.Repeat("T", 5000), "TORM 0001", "%54ORM0001"}

func badUsers(name string, valid call) (bad []badCall) {
	for _, user := range badUserIDs {
		bad = append(bad, badCall{fmt.Sprintf("%s by %.20q", name, user), valid.with(func(c *call) { c.user = user }), dems.InvalidUserID})
	}
	for _, user := range []string{"", " ", "\t \t"} {
		bad = append(bad, badCall{fmt.Sprintf("%s by %q", name, user), valid.with(func(c *call) {
			c.user, c.headers = "", append(c.headers, "Dems-User", user)
		}), dems.Unauthenticated})
	}
	return append(bad,
		badCall{name + " by nobody", valid.with(func(c *call) { c.user = "" }), dems.Unauthenticated},
		badCall{name + " by two", valid.with(func(c *call) { c.headers = append(c.headers, "Dems-User", c.user) }), dems.MalformedRequest},
		badCall{name + " by one and nobody", valid.with(func(c *call) { c.headers = append(c.headers, "Dems-User", "") }), dems.MalformedRequest})
}

func badKeys(name string, valid call) (bad []badCall) {
	for _, key := range []string{"", " ", "a b", "é", "a\x7f", "a\xff", strings.Repeat("k", 129), strings.Repeat("k", 10_000)} {
		bad = append(bad, badCall{fmt.Sprintf("%s with the key %.20q", name, key),
			valid.with(func(c *call) { c.headers = append(c.headers, "Idempotency-Key", key) }), dems.InvalidIdempotencyKey})
	}
	return append(bad, badCall{name + " with two keys",
		valid.with(func(c *call) { c.headers = append(c.headers, "Idempotency-Key", "k", "Idempotency-Key", "k") }), dems.InvalidIdempotencyKey})
}

func badMedia(name string, valid call) (bad []badCall) {
	for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/x-ndjson",
		"application/json; charset=latin1", "application/json; charset=utf-16", "application/json; version=1", "application/jsonx", "json",
		"application/problem+json", "application/json, application/json", "application/json;;", "*/*", "application/*", ";", " ", "\xff",
		"application/json; charset=utf-8; charset=latin1"} {
		bad = append(bad, badCall{fmt.Sprintf("%s as %q", name, media), valid.with(func(c *call) { c.contentType = media }), dems.UnsupportedMediaType})
	}
	for _, headers := range [][]string{{"Content-Type", "application/json"}, {"Content-Encoding", "gzip"}, {"Content-Encoding", "identity"}} {
		bad = append(bad, badCall{fmt.Sprintf("%s with %v", name, headers),
			valid.with(func(c *call) { c.headers = append(c.headers, headers...) }), dems.UnsupportedMediaType})
	}
	return bad
}

func badBodies(name string, r *route, valid call) (bad []badCall) {
	add := func(what, body string, want dems.Code) {
		for _, chunked := range []bool{false, true} {
			bad = append(bad, badCall{fmt.Sprintf("%s with %s, chunked %v", name, what, chunked), valid.with(func(c *call) {
				c.body, c.chunked, c.contentType = body, chunked, "application/json"
			}), want})
		}
	}
	for i := range len(valid.body) {
		add(fmt.Sprintf("the first %d bytes", i), valid.body[:i], dems.MalformedRequest)
	}
	add("a body of 64 KiB and a byte", valid.body+strings.Repeat(" ", maxBodyBytes+1-len(valid.body)), dems.PayloadTooLarge)
	add("a body of 1 MiB", strings.Repeat("x", 1<<20), dems.PayloadTooLarge)
	add("64 KiB of spaces", strings.Repeat(" ", maxBodyBytes), dems.MalformedRequest)
	add("deep nesting", strings.Repeat("[", maxBodyBytes), dems.MalformedRequest)
	add("deep objects", strings.Repeat(`{"`+r.fields[0].name+`":`, 3000), dems.MalformedRequest)
	add("a mark of byte order", "\ufeff"+valid.body, dems.MalformedRequest)
	add("UTF-16", "\xff\xfe{\x00}\x00", dems.MalformedRequest)
	for _, body := range []string{"null", "true", "1", `"x"`, "[]", "[" + valid.body + "]", "<xml/>", "capacity=3", "{}{}", "\x00", "{\x00}"} {
		add(fmt.Sprintf("%q", body), body, dems.MalformedRequest)
	}
	for _, rest := range []string{"x", ",", "}", valid.body, "\x00", " // end"} {
		add(fmt.Sprintf("%q at the end", rest), valid.body+rest, dems.MalformedRequest)
	}
	for _, field := range []string{`"surprise":1`, `"":1`, `"customerID":"MTLC0001"`, `"__proto__":{}`, `"op":"addEvent"`, `"key":"x"`, "\"\xff\":1"} {
		add("the field "+field, strings.TrimSuffix(valid.body, "}")+","+field+"}", dems.MalformedRequest)
		add("the field "+field+" first", "{"+field+","+strings.TrimPrefix(valid.body, "{"), dems.MalformedRequest)
	}
	return bad
}

// badFields puts other values into each field of the body, and other fields into its place.
func badFields(name string, r *route, valid call) (bad []badCall) {
	add := func(what, body string, want dems.Code) {
		bad = append(bad, badCall{fmt.Sprintf("%s with %.60s", name, what), valid.with(func(c *call) { c.body = body }), want})
	}
	for _, field := range r.fields {
		start := strings.Index(valid.body, `"`+field.name+`":`)
		if start < 0 {
			continue // not all go together
		}
		end := start + strings.IndexAny(valid.body[start:], ",}")
		put := func(text string) string { return valid.body[:start] + text + valid.body[end:] }
		own := valid.body[start:end]
		add(field.name+" twice", put(own+","+own), dems.MalformedRequest)
		add(field.name+" twice, once escaped", put(own+","+strings.Replace(own, `"`, fmt.Sprintf(`"\u%04x`, own[1]), 1)[:7]+own[2:]), dems.MalformedRequest)
		add(field.name+" in capitals", put(strings.ToUpper(own)), dems.MalformedRequest)
		add(field.name+" without a value", put(`"`+field.name+`"`), dems.MalformedRequest)
		for _, value := range []string{"null", "true", "[]", "{}", `["x"]`, `{"x":1}`, "NaN", "'x'", "x", "", "01", "1.", ".1", "+1", "1e", "--1",
			`"\ud800"`, `"\udc00\ud800"`, "\"\xff\"", "\"\xed\xa0\x80\"", "\"\n\"", `"\x"`, `"\u12"`, `"x`, strings.Repeat("[", 10_000)} {
			if field.list && value == `["x"]` {
				continue
			}
			add(field.name+" "+value, put(`"`+field.name+`":`+value), dems.MalformedRequest)
		}
		if field.number {
			add(field.name+" as a text", put(`"`+field.name+`":"3"`), dems.MalformedRequest)
			want := dems.MalformedRequest
			if field.name == "capacity" {
				want = dems.InvalidCapacity
			}
			for _, value := range []string{"0", "-1", "-0", "1.5", "3.0", "1e3", "1e30", "1E400", "-1e400", "1000001", "4294967297", "9223372036854775808",
				"18446744073709551617", "1e-400", "0.1", strings.Repeat("9", 60_000)} {
				add(field.name+" "+value, put(`"`+field.name+`":`+value), want)
			}
			add("no field at all", "{}", want)
			continue
		}
		add(field.name+" as a number", put(`"`+field.name+`":3`), dems.MalformedRequest)
		want := map[string]dems.Code{"to": dems.NotFound, "node": dems.NotFound, "kind": dems.MalformedRequest,
			"peers": dems.MalformedRequest, "direction": dems.MalformedRequest}[field.name]
		if want == dems.OK {
			want = dems.InvalidEventType
			if strings.HasSuffix(field.name, "ID") {
				want = dems.InvalidEventID
			}
			add(field.name+" empty", put(`"`+field.name+`":""`), want)
			add("no "+field.name, put(`"`+field.name+`":" "`), want)
		}
		for _, value := range []string{"?", "é", "🙂", `\u0000`, `TORM310219`, "NYCM100519", "TORX100519", "TORM1005190", "semi\\u0131nar", "N2", "n2 ",
			"1n", strings.Repeat("n", 33), strings.Repeat("x", 60_000)} {
			add(field.name+" "+value, put(`"`+field.name+`":"`+value+`"`), want)
		}
	}
	return bad
}

// TestBadInput sends everything wrong that the generators above think of to every route. The answer is always the
// documented one, and the cluster never hears of it.
func TestBadInput(t *testing.T) {
	rows, fake := 0, new(restFake)
	h := newRESTTest(fake)
	walk(t, h, func(name string, r *route, _ object) {
		for _, bad := range badCalls(name, r) {
			rows++
			response, body := send(t, h, bad.call)
			if !strings.Contains(body, `"code":"`+bad.want.String()+`"`) || response.StatusCode != statusOf(bad.want) {
				t.Errorf("%.150s: %d %.300s, want %s", bad.name, response.StatusCode, body, bad.want)
			}
			if calls := fake.seen(); len(calls) != 0 {
				t.Fatalf("%.150s: the cluster was asked: %v", bad.name, calls)
			}
			if challenge := response.Header.Get("WWW-Authenticate"); (challenge != "") != (response.StatusCode == http.StatusUnauthorized) {
				t.Errorf("%.150s: WWW-Authenticate is %q", bad.name, challenge)
			}
		}
	})
	if rows < 1000 {
		t.Errorf("only %d rows", rows)
	}
	t.Logf("%d rows", rows)
}

// TestBadVariables puts bad identifiers into every variable of every path.
func TestBadVariables(t *testing.T) {
	codes := map[string]dems.Code{
		"customerID": dems.InvalidUserID, "eventID": dems.InvalidEventID, "eventType": dems.InvalidEventType, "city": dems.NotFound, "id": dems.NotFound,
	}
	values := map[string]string{"customerID": "MTLC0001", "eventID": "TORM100519", "eventType": "seminar", "city": "TOR", "id": "n2"}
	bad := []string{" ", "x", "TORM", "a/b", "%", "%2F", "é", "\xff", "TORM310219", "TORM290219", "NYCM100519", "TORX100519", "TORM0001",
		"TORC001", "NYCC0001", "party", "seminarss", "seminar\x00", ".", "..", "?", "#", ";", "NYC", "TORO", "tor,mtl", strings.Repeat("x", 8000)}
	fake := new(restFake)
	h := newRESTTest(fake)
	walk(t, h, func(name string, r *route, _ object) {
		for variable, good := range values {
			if !strings.Contains(r.path, "{"+variable+"}") {
				continue
			}
			for _, value := range bad {
				if variable == "id" && dems.ValidName(value) {
					continue // a node may be called that
				}
				c := validCalls[name].with(func(c *call) { c.target = strings.Replace(c.target, good, url.PathEscape(value), 1) })
				if variable == "eventID" && r.op == dems.CancelEvent {
					c.target, _, _ = strings.Cut(c.target, "?")
				}
				response, body := send(t, h, c)
				want := codes[variable]
				if response.StatusCode != statusOf(want) || !strings.Contains(body, want.String()) || len(fake.seen()) != 0 {
					t.Errorf("%s with %s %.20q: %d %s, want %s; cluster %v", name, variable, value, response.StatusCode, body, want, fake.seen())
				}
			}
		}
	})
}

// TestWrongMethods sends every method to every path: those that are not documented are refused, and Allow lists the others.
func TestWrongMethods(t *testing.T) {
	methods := []string{"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get"}
	h := newRESTTest(new(restFake))
	walk(t, h, func(name string, r *route, _ object) {
		path, _, _ := strings.Cut(validCalls[name].target, "?")
		allowed := []string{}
		for method := range dig(document(), "paths", r.path).(object) {
			if method == "get" {
				allowed = append(allowed, "HEAD")
			}
			if method != "parameters" {
				allowed = append(allowed, strings.ToUpper(method))
			}
		}
		for _, method := range methods {
			if slices.Contains(allowed, method) {
				continue
			}
			c := call{method: method, target: "http://example.com" + path}
			response, body := send(t, h, c)
			if response.StatusCode != 405 || !strings.Contains(body, "method_not_allowed") {
				t.Errorf("%s %s: %d %s", method, path, response.StatusCode, body)
			}
			if got := strings.Split(response.Header.Get("Allow"), ", "); !sameNames(got, allowed) {
				t.Errorf("%s %s: Allow is %v, want %v", method, path, got, allowed)
			}
		}
	})
}

// TestNotYetServed: what later versions add must not look as if it were there.
func TestNotYetServed(t *testing.T) {
	h := newRESTTest(new(restFake))
	for _, target := range []string{"/", "/v1", "/v1/", "/v1/batch", "/v1/incidents/7", "/v1/changes?from=1", "/v1/faults/n1", "/v1/cluster/nodes", "/v1/cluster/nodes/n1",
		"/v1/cluster/nodes/replace", "/v1/cluster/nodes//replace",
		"/v1/events", "/v1/customers", "/v1/customers/MTLC0001", "/v1/customers/MTLC0001/swaps/1", "/v2/registry", "/favicon.ico", "/readyz/verbose",
		"/v1/registry/..", "/v1/cluster/../registry", "/livez%2F", "/v1/events/seminar/TORM100519/more", "/v1/customers/MTLC0001/bookings/TORM100519/x"} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			if response, body := send(t, h, call{method: method, target: target}); response.StatusCode != 404 || !strings.Contains(body, `"not_found"`) {
				t.Errorf("%s %s: %d %s", method, target, response.StatusCode, body)
			}
		}
	}
}

// TestOrderOfChecks gives requests with several mistakes and expects the documented one to be named.
func TestOrderOfChecks(t *testing.T) {
	key := []string{"Idempotency-Key", " bad key "}
	huge := strings.Repeat("x", maxBodyBytes+1)
	for _, test := range []struct {
		call call
		want string
	}{
		{call{method: "PATCH", target: "/v1/nothing?x=%", user: "x", body: huge, contentType: "text/plain", headers: key}, "not_found"},
		{call{method: "PATCH", target: "/v1/events/party/x?x=%", user: "x", body: huge, contentType: "text/plain", headers: key}, "method_not_allowed"},
		{call{method: "PUT", target: "/v1/events/party/x?x=%", body: huge, contentType: "text/plain", headers: key}, "unauthenticated"},
		{call{method: "PUT", target: "/v1/events/party/x?x=%", user: "x", body: huge, contentType: "text/plain", headers: key}, "unsupported_media_type"},
		{call{method: "PUT", target: "/v1/events/party/x?x=%", user: "x", body: huge, headers: key}, "payload_too_large"},
		{call{method: "PUT", target: "/v1/events/party/x?x=%", user: "x", body: "{", headers: key}, "The body is not valid JSON"},
		{call{method: "PUT", target: "/v1/events/party/x?x=%", user: "x", body: "{}", headers: key}, "The query is not percent-encoded"},
		{call{method: "PUT", target: "/v1/events/party/x", user: "x", body: "{}", headers: key}, "invalid_user_id"},
		{call{method: "PUT", target: "/v1/events/party/x", user: "TORM0001", body: "{}", headers: key}, "invalid_event_id"},
		{call{method: "PUT", target: "/v1/events/party/TORM100519", user: "TORM0001", body: "{}", headers: key}, "invalid_event_type"},
		{call{method: "PUT", target: "/v1/events/seminar/TORM100519", user: "TORM0001", body: "{}", headers: key}, "invalid_capacity"},
		{call{method: "PUT", target: "/v1/events/seminar/TORM100519", user: "TORM0001", body: `{"capacity":1}`, headers: key}, "invalid_idempotency_key"},
		{call{method: "DELETE", target: "/v1/events/party/x?bookings=no", user: "TORM0001", headers: key}, "invalid_event_id"},
		{call{method: "DELETE", target: "/v1/events/seminar/TORM100519?bookings=no", user: "TORM0001", headers: key}, "malformed_request"},
		{call{method: "POST", target: "/v1/customers/x/bookings", user: "x", body: "{}", headers: key}, "invalid_user_id"},
		{call{method: "POST", target: "/v1/customers/TORM0001/bookings", user: "TORM0001", body: "{}", headers: key}, "invalid_user_id"},
		{call{method: "POST", target: "/v1/customers/TORC0001/bookings", user: "TORM0001", body: "{}", headers: key}, "invalid_event_id"},
		{call{method: "POST", target: "/v1/customers/TORC0001/swaps", user: "TORM0001", body: `{"newEventID":"TORM100519"}`, headers: key}, "invalid_event_id"},
		{call{method: "POST", target: "/v1/customers/TORC0001/swaps", user: "TORM0001", headers: key,
			body: `{"newEventID":"TORM100519","oldEventID":"TORM100519","newEventType":"seminar"}`}, "invalid_event_type"},
		{call{method: "DELETE", target: "/v1/customers/TORC0001/bookings/TORM100519?eventType=", user: "TORM0001"}, "invalid_event_type"},
	} {
		fake := new(restFake)
		if _, body := send(t, newRESTTest(fake), test.call); !strings.Contains(body, test.want) || len(fake.seen()) != 0 {
			t.Errorf("%s %s: %s, want %s; cluster %v", test.call.method, test.call.target, body, test.want, fake.seen())
		}
	}
}

// TestCitiesUnknown: before a front end knows the cities it cannot tell right from wrong. It waits for them and, when the
// deadline comes first, says so.
func TestCitiesUnknown(t *testing.T) {
	for name, c := range validCalls {
		fake := &restFake{unknown: true}
		response, body := send(t, newRESTTest(fake, func(config *RESTConfig) { config.Deadline = 10 * time.Millisecond }), c)
		needs := c.user != "" || name == "getCityLog"
		if (response.StatusCode == 503) != needs || needs && (!strings.Contains(body, `"unavailable"`) || len(fake.seen()) != 0) {
			t.Errorf("%s: %d %s; cluster %v", name, response.StatusCode, body, fake.seen())
		}
	}
}
