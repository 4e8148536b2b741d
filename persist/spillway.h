// Everything a user of Spillway includes.
#pragma once

#include "spillway/core/error.h"
#include "spillway/ipc/consumer.h"
#include "spillway/ipc/exclusive_producer.h"
#include "spillway/ipc/shared_producer.h"
#include "spillway/persist/async_producer.h"
#include "spillway/persist/domain.h"
#include "spillway/persist/producer.h"
#include "spillway/persist/topic.h"
#include "spillway/persist/wait_set.h"
