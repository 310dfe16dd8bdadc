// Package report writes the result of a smoke run for others to show: JUnit
// for CI systems, HTML with pictures of memory for people. Everything that a
// service said or wrote is escaped; the HTML loads nothing and runs nothing.
package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// The elements that every reader of JUnit's XML knows.
type (
	testSuites struct {
		XMLName  xml.Name    `xml:"testsuites"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Time     string      `xml:"time,attr"`
		Suites   []testSuite `xml:"testsuite"`
	}
	testSuite struct {
		Name       string      `xml:"name,attr"`
		Tests      int         `xml:"tests,attr"`
		Failures   int         `xml:"failures,attr"`
		Errors     int         `xml:"errors,attr"`
		Skipped    int         `xml:"skipped,attr"`
		Time       string      `xml:"time,attr"`
		Timestamp  string      `xml:"timestamp,attr,omitempty"`
		Properties *[]property `xml:"properties>property,omitempty"`
		Cases      []testCase  `xml:"testcase"`
	}
	property struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	testCase struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		Time    string   `xml:"time,attr"`
		Failure *failure `xml:"failure,omitempty"`
		Out     string   `xml:"system-out,omitempty"`
	}
	failure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes a run as JUnit's XML: a suite for the run and one for each
// service, a case for each check. A warning is a case that passed and says so
// in its output. Logs are left out: CI systems show such files to many.
func JUnit(w io.Writer, s release.Smoke) error {
	all := testSuites{Name: "promote smoke", Time: seconds(s.Finished.Sub(s.Started).Seconds())}
	for _, g := range groups(s) {
		suite := testSuite{Name: "smoke", Timestamp: s.Started.UTC().Format(time.RFC3339)}
		class := "smoke"
		if g.service != nil {
			suite.Name, class = "smoke "+g.service.Name, "smoke."+g.service.Name
			suite.Properties = properties(*g.service)
		} else if !s.Release.IsZero() {
			suite.Properties = &[]property{{"release", s.Release.String()}}
		}
		var took float64
		for _, c := range g.checks {
			one := testCase{Class: class, Name: c.Name, Time: seconds(c.Seconds)}
			switch c.Result {
			case release.Passed:
				one.Out = c.Detail
			case release.Warned:
				one.Out = "warning: " + c.Detail
			default:
				one.Failure = &failure{Message: c.Detail, Type: c.Result.String(), Text: c.Detail}
				suite.Failures++
			}
			took += c.Seconds
			suite.Cases = append(suite.Cases, one)
		}
		suite.Tests, suite.Time = len(suite.Cases), seconds(took)
		all.Tests += suite.Tests
		all.Failures += suite.Failures
		all.Suites = append(all.Suites, suite)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func properties(s release.SmokeService) *[]property {
	list := []property{{"restarts", fmt.Sprint(s.Restarts)}, {"memory.peak", fmt.Sprint(s.Memory.Peak)}}
	if s.Memory.Limit > 0 {
		list = append(list, property{"memory.limit", fmt.Sprint(s.Memory.Limit)})
	}
	return &list
}

func seconds(f float64) string { return fmt.Sprintf("%.3f", max(f, 0)) }

// group is the checks of one service, or, first, of the run as a whole.
type group struct {
	service *release.SmokeService
	checks  []release.SmokeCheck
}

// groups sorts checks by service, in the result's order. A check that names no
// service belongs to the run, unless a part of its name is a service's.
func groups(s release.Smoke) []group {
	list := []group{{}}
	for i := range s.Services {
		list = append(list, group{service: &s.Services[i]})
	}
	for _, c := range s.Checks {
		parts := strings.Split(c.Name, "/")[1:]
		if c.Service != "" {
			parts = []string{c.Service}
		}
		at := 1 + slices.IndexFunc(s.Services, func(s release.SmokeService) bool { return slices.Contains(parts, s.Name) })
		list[at].checks = append(list[at].checks, c)
	}
	return slices.DeleteFunc(list, func(g group) bool { return len(g.checks) == 0 && g.service == nil })
}
