package frontend

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/mux"

	"dems"
)

type object = map[string]any

// document is openapi.json, decoded once.
var document = sync.OnceValue(func() object {
	var decoded object
	if err := json.Unmarshal(openAPIDocument, &decoded); err != nil {
		panic(err)
	}
	return decoded
})

// dig follows keys into the document and any reference on the way; nil where there is nothing.
func dig(value any, keys ...string) any {
	value = follow(value)
	for _, key := range keys {
		inner, ok := value.(object)
		if !ok {
			return nil
		}
		value = follow(inner[key])
	}
	return value
}

func follow(value any) any {
	inner, ok := value.(object)
	if !ok {
		return value
	}
	reference, ok := inner["$ref"].(string)
	if !ok {
		return value
	}
	return dig(document(), strings.Split(strings.TrimPrefix(reference, "#/"), "/")...)
}

// violations checks a value against a JSON schema and tells what does not fit. It knows the keywords that the document
// uses and complains about any other, so that nothing in the document goes unchecked.
func violations(schema, value any, at string) (found []string) {
	report := func(format string, arguments ...any) {
		found = append(found, at+": "+fmt.Sprintf(format, arguments...))
	}
	rules, ok := follow(schema).(object)
	if !ok {
		report("no schema: %v", schema)
		return found
	}
	number, isNumber := value.(float64)
	text, isText := value.(string)
	for keyword, rule := range rules {
		switch keyword {
		case "description", "examples", "default", "format":
		case "type":
			if got := typeOf(value); got != rule && (got != "integer" || rule != "number") {
				report("is %s, want %v", got, rule)
			}
		case "const":
			if value != rule {
				report("is %v, want %v", value, rule)
			}
		case "enum":
			if !slices.Contains(rule.([]any), value) {
				report("%v is none of %v", value, rule)
			}
		case "pattern":
			if isText && !regexp.MustCompile(rule.(string)).MatchString(text) {
				report("%q does not match %v", text, rule)
			}
		case "minLength", "maxLength":
			if length := float64(len(text)); isText && (keyword == "minLength" && length < rule.(float64) || keyword == "maxLength" && length > rule.(float64)) {
				report("%q has %v bytes, %s %v", text, length, keyword, rule)
			}
		case "minimum", "maximum":
			if isNumber && (keyword == "minimum" && number < rule.(float64) || keyword == "maximum" && number > rule.(float64)) {
				report("is %v, %s %v", number, keyword, rule)
			}
		case "allOf":
			for _, part := range rule.([]any) {
				found = append(found, violations(part, value, at)...)
			}
		case "minItems", "maxItems":
			items, isList := value.([]any)
			if count := float64(len(items)); isList && (keyword == "minItems" && count < rule.(float64) || keyword == "maxItems" && count > rule.(float64)) {
				report("has %v items, %s %v", count, keyword, rule)
			}
		case "items":
			items, _ := value.([]any)
			for i, item := range items {
				found = append(found, violations(rule, item, fmt.Sprintf("%s[%d]", at, i))...)
			}
		case "properties", "required", "additionalProperties":
			if fields, isObject := value.(object); isObject {
				found = append(found, objectViolations(keyword, rule, rules, fields, at)...)
			}
		default:
			report("the test does not know the keyword %s", keyword)
		}
	}
	return found
}

func objectViolations(keyword string, rule any, rules, fields object, at string) (found []string) {
	switch keyword {
	case "properties":
		for name, schema := range rule.(object) {
			if value, ok := fields[name]; ok {
				found = append(found, violations(schema, value, at+"."+name)...)
			}
		}
	case "required":
		for _, name := range rule.([]any) {
			if _, ok := fields[name.(string)]; !ok {
				found = append(found, fmt.Sprintf("%s: %v is missing", at, name))
			}
		}
	case "additionalProperties":
		for name := range fields {
			if dig(rules, "properties", name) == nil {
				found = append(found, fmt.Sprintf("%s: %s is not described", at, name))
			}
		}
	}
	return found
}

func typeOf(value any) string {
	switch value := value.(type) {
	case string:
		return "string"
	case float64:
		if value == math.Trunc(value) {
			return "integer"
		}
		return "number"
	case object:
		return "object"
	case []any:
		return "array"
	case bool:
		return "boolean"
	}
	return "null"
}

// checkDocumented makes sure that a response is one that the document describes: its status, its media type, its
// headers, its body.
func checkDocumented(t *testing.T, h *restHandler, c call, response *http.Response, body string) {
	t.Helper()
	var match mux.RouteMatch
	request := c.request()
	described := dig(document(), "components", "responses", "NotFound")
	if h.router.Match(request, &match) {
		method := strings.ToLower(strings.Replace(request.Method, "HEAD", "GET", 1))
		described = dig(document(), "paths", h.routes[match.Route].path, method, "responses", strconv.Itoa(response.StatusCode))
	} else if match.MatchErr == mux.ErrMethodMismatch {
		described = dig(document(), "components", "responses", "MethodNotAllowed")
	}
	if described == nil {
		t.Errorf("%s %s: status %d is not documented", c.method, c.target, response.StatusCode)
		return
	}
	media, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	content, ok := dig(described, "content", media, "schema").(object)
	if !ok {
		t.Errorf("%s %s: %d: media type %q is not documented", c.method, c.target, response.StatusCode, media)
		return
	}
	value := any(body)
	if strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json") {
		if err := json.Unmarshal([]byte(body), &value); err != nil {
			t.Errorf("%s %s: the body is not JSON: %v: %s", c.method, c.target, err, body)
		}
	}
	for _, violation := range violations(content, value, "body") {
		t.Errorf("%s %s: %d: %s", c.method, c.target, response.StatusCode, violation)
	}
	checkHeaders(t, c, response, described)
}

// checkHeaders compares the headers of a response with the described ones. Those that HTTP itself needs go without saying.
func checkHeaders(t *testing.T, c call, response *http.Response, described any) {
	t.Helper()
	for name, values := range response.Header {
		switch name {
		case "Content-Type", "Content-Length", "Cache-Control", "Connection", "Date", "Vary":
			continue
		case "Www-Authenticate":
			name = "WWW-Authenticate"
		}
		schema := dig(described, "headers", name, "schema")
		if schema == nil {
			t.Errorf("%s %s: %d: header %s is not documented", c.method, c.target, response.StatusCode, name)
			continue
		}
		value := any(values[0])
		if number, err := strconv.ParseFloat(values[0], 64); err == nil {
			value = number
		}
		for _, violation := range violations(schema, value, name) {
			t.Errorf("%s %s: %d: %s", c.method, c.target, response.StatusCode, violation)
		}
	}
}

// codesOf returns what a route can answer, as its parts and the rules of its operation have it.
func codesOf(r *route) []dems.Code {
	codes := []dems.Code{dems.MalformedRequest, dems.Internal}
	if strings.HasPrefix(r.path, "/v1/") {
		codes = append(codes, dems.RateLimited)
	}
	if r.access == forUsers {
		codes = append(codes, dems.Unauthenticated, dems.InvalidUserID, dems.Unavailable, dems.NoMajority)
	}
	if r.fields != nil {
		codes = append(codes, dems.PayloadTooLarge, dems.UnsupportedMediaType)
	}
	if r.op.Mutates() {
		codes = append(codes, dems.InvalidIdempotencyKey, dems.IdempotencyKeyReused, dems.Indeterminate)
	}
	switch r.path {
	case "/v1/registry", "/v1/incidents", "/v1/snapshot":
		codes = append(codes, dems.Unavailable, dems.NoMajority)
	case "/v1/logs/{city}":
		codes = append(codes, dems.Unavailable, dems.NoMajority, dems.NotFound)
	case "/v1/cluster/leader", "/v1/cluster/nodes/{id}/replace", "/v1/faults":
		codes = append(codes, dems.Unavailable, dems.NoMajority, dems.NotFound, dems.Indeterminate)
	}
	codes = append(codes, refusalsOf(r.op)...)
	slices.Sort(codes)
	return codes
}

// refusalsOf returns what the syntax of an operation's events and the rules can refuse.
func refusalsOf(op dems.Op) []dems.Code {
	typed := []dems.Code{dems.InvalidEventType}
	named := append(typed, dems.InvalidEventID)
	switch op {
	case dems.AddEvent:
		return append(named, dems.InvalidCapacity, dems.ForbiddenRole, dems.ForbiddenCity, dems.CapacityBelowBooked)
	case dems.RemoveEvent:
		return append(named, dems.ForbiddenRole, dems.ForbiddenCity, dems.EventNotFound, dems.HasBookings)
	case dems.ListEventAvailability:
		return append(typed, dems.ForbiddenRole)
	case dems.GetEvent:
		return append(named, dems.ForbiddenRole, dems.EventNotFound)
	case dems.BookEvent:
		return append(named, dems.ForbiddenCustomer, dems.EventNotFound, dems.AlreadyBooked, dems.EventFull, dems.MonthlyLimit)
	case dems.GetBookingSchedule:
		return []dems.Code{dems.ForbiddenCustomer}
	case dems.CancelEvent:
		return append(named, dems.ForbiddenCustomer, dems.NotBooked, dems.AmbiguousEventType)
	case dems.SwapEvent:
		return append(named, dems.ForbiddenCustomer, dems.NotBooked, dems.SameEvent, dems.EventNotFound,
			dems.AlreadyBooked, dems.EventFull, dems.MonthlyLimit)
	}
	return nil
}

// walk calls visit for every path and method of the router, with what the document says of it.
func walk(t *testing.T, h *restHandler, visit func(name string, r *route, operation object)) {
	t.Helper()
	err := h.router.Walk(func(added *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		path, err := added.GetPathTemplate()
		if err != nil {
			return err
		}
		methods, err := added.GetMethods()
		if err != nil {
			return err
		}
		for _, method := range methods {
			if method == http.MethodHead && slices.Contains(methods, http.MethodGet) {
				continue
			}
			operation, ok := dig(document(), "paths", path, strings.ToLower(method)).(object)
			if !ok {
				t.Errorf("%s %s is served but not documented", method, path)
				continue
			}
			visit(operation["operationId"].(string), h.routes[added], operation)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenAPIDescribesTheRoutes(t *testing.T) {
	h := newRESTTest(new(restFake))
	served := make(map[string]bool)
	walk(t, h, func(name string, r *route, operation object) {
		if served[name] {
			t.Errorf("operationId %s stands twice", name)
		}
		served[name] = true
		if r.op != 0 && name != r.op.String() {
			t.Errorf("operationId of %s is %s", r.op, name)
		}
		checkParameters(t, name, r, operation)
		checkBody(t, name, r, operation)
		checkCodes(t, name, r, operation)
		if secured := len(operation["security"].([]any)) > 0; secured != (r.access == forUsers) {
			t.Errorf("%s: security is wrong", name)
		}
	})
	for path, item := range dig(document(), "paths").(object) {
		for method, operation := range item.(object) {
			if method == "parameters" {
				continue
			}
			if name := dig(operation, "operationId").(string); !served[name] {
				t.Errorf("%s %s is documented but not served", method, path)
			}
			if _, ok := validCalls[dig(operation, "operationId").(string)]; !ok {
				t.Errorf("%s %s: no test calls it", method, path)
			}
		}
	}
}

func checkParameters(t *testing.T, name string, r *route, operation object) {
	t.Helper()
	documented := map[string][]string{}
	own, _ := operation["parameters"].([]any)
	shared, _ := dig(document(), "paths", r.path, "parameters").([]any)
	for _, parameter := range append(slices.Clone(own), shared...) {
		where := dig(parameter, "in").(string)
		documented[where] = append(documented[where], dig(parameter, "name").(string))
	}
	if !sameNames(documented["query"], r.parameters) {
		t.Errorf("%s: documented query parameters %v, accepted %v", name, documented["query"], r.parameters)
	}
	var variables []string
	for _, variable := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(r.path, -1) {
		variables = append(variables, variable[1])
	}
	if !sameNames(documented["path"], variables) {
		t.Errorf("%s: documented path parameters %v, in the path %v", name, documented["path"], variables)
	}
	var headers []string
	if r.op.Mutates() {
		headers = []string{"Idempotency-Key"}
	}
	if !sameNames(documented["header"], headers) {
		t.Errorf("%s: documented headers %v, read %v", name, documented["header"], headers)
	}
}

func checkBody(t *testing.T, name string, r *route, operation object) {
	t.Helper()
	properties, _ := dig(operation, "requestBody", "content", "application/json", "schema", "properties").(object)
	var read []string
	for _, field := range r.fields {
		read = append(read, field.name)
		documented := dig(properties[field.name], "type")
		if number, list := documented == "integer", documented == "array"; number != field.number || list != field.list {
			t.Errorf("%s: the type of %s is wrong", name, field.name)
		}
	}
	if documented := slices.Collect(maps.Keys(properties)); !sameNames(documented, read) {
		t.Errorf("%s: documented fields %v, accepted %v", name, documented, read)
	}
}

func checkCodes(t *testing.T, name string, r *route, operation object) {
	t.Helper()
	var documented []dems.Code
	for status, response := range operation["responses"].(object) {
		schema, _ := dig(response, "content", "application/problem+json", "schema", "allOf").([]any)
		if schema == nil {
			continue
		}
		for _, text := range dig(schema[1], "properties", "code", "enum").([]any) {
			code, ok := dems.ParseCode(text.(string))
			if !ok || strconv.Itoa(statusOf(code)) != status {
				t.Errorf("%s: code %v is documented under %s", name, text, status)
			}
			documented = append(documented, code)
		}
	}
	slices.Sort(documented)
	if want := codesOf(r); !slices.Equal(documented, want) {
		t.Errorf("%s: documented codes\n%v, can answer\n%v", name, documented, want)
	}
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func TestOpenAPIListsEveryCode(t *testing.T) {
	var want []any
	for _, code := range dems.Codes() {
		want = append(want, code.String())
	}
	documented := dig(document(), "components", "schemas", "Code", "enum").([]any)
	for _, code := range want {
		if !slices.Contains(documented, code) {
			t.Errorf("%v is missing", code)
		}
	}
	if len(documented) != len(want) {
		t.Errorf("%d codes documented, want %d", len(documented), len(want))
	}
}

// TestOpenAPIExamples checks every example against its schema, and every reference.
func TestOpenAPIExamples(t *testing.T) {
	examples := 0
	var visit func(value any, at string)
	visit = func(value any, at string) {
		switch value := value.(type) {
		case []any:
			for i, item := range value {
				visit(item, fmt.Sprintf("%s/%d", at, i))
			}
		case object:
			if reference, ok := value["$ref"]; ok && follow(value) == nil {
				t.Errorf("%s: nothing stands at %v", at, reference)
			}
			if example, ok := value["example"]; ok {
				examples++
				for _, violation := range violations(value["schema"], example, at) {
					t.Error(violation)
				}
			}
			if list, ok := value["examples"].([]any); ok {
				for _, example := range list {
					examples++
					for _, violation := range violations(value, example, at) {
						t.Error(violation)
					}
				}
			}
			for key, inner := range value {
				if key != "example" && key != "examples" {
					visit(inner, at+"/"+key)
				}
			}
		}
	}
	visit(document(), "#")
	if examples < 30 {
		t.Errorf("only %d examples", examples)
	}
}

// TestOpenAPIRequestExamples sends the documented bodies and expects the documented successes.
func TestOpenAPIRequestExamples(t *testing.T) {
	h := newRESTTest(new(restFake))
	walk(t, h, func(name string, _ *route, operation object) {
		c := validCalls[name]
		if example := dig(operation, "requestBody", "content", "application/json", "example"); example != nil {
			body, err := json.Marshal(example)
			if err != nil {
				t.Fatal(err)
			}
			c.body = string(body)
		}
		if response, body := send(t, h, c); response.StatusCode >= 300 {
			t.Errorf("%s: %d %s", name, response.StatusCode, body)
		}
	})
}
