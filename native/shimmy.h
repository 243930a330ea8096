/* shimmy: the whole C ABI of native/, as the extension and the tests see it. */
#ifndef SHIMMY_SHIMMY_H
#define SHIMMY_SHIMMY_H

#include "engine.h"
#include "media.h"
#include "shim.h"

#endif
