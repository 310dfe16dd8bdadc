// Package smoke runs a release as production would run it, under production's
// limits, in a project of its own, and says what it saw: that services start
// healthy and stay so, what checks answer, that state survives, how memory
// peaks and whether it grows towards its limit, and that services stop in good
// order. An application that fails gives a failed result; an engine that does
// not answer gives an error.
package smoke
