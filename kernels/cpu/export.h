/* What Python may call. */
#pragma once
#define EXPORT __attribute__((visibility("default")))
