// Runs a scenario once for each of its points and each thing that may happen there.
//
//   SPILLWAY_POINT="kill ipc/repair.cpp:170 1"   only this one: kill, cut, stop, stop-kill or fork; place; time
//   SPILLWAY_POINTS_ALL=1                        every run, also of a scenario of which usually one of `every` is made
//   SPILLWAY_POINTS_TURN=1                       ... or the next one of those
//   SPILLWAY_POINTS_SAY=1                        what is run, as it is run
#pragma once

#include "points/scene.h"

namespace spillway::test {

void run(const Scenario& scenario);

// All scenarios, by name; a test case runs each.
const std::vector<Scenario>& scenarios();
void run(const std::string& name);

// The places that a run of the scenario without an action gets to.
std::vector<std::string> places_of(const Scenario& scenario);

}  // namespace spillway::test
