/* Not a program: carries the types and maps of abi.h and maps.h into type information for tools/gen_layout.py. */
#include "maps.h"

struct {
	enum limit limit;
	enum wire_type wire_type;
	enum wire_flag wire_flag;
	enum wire_bit wire_bit;
	enum action action;
	enum scope scope;
	enum drop_reason drop_reason;
	enum counter counter;
	enum config_flag config_flag;
	enum flow_flag flow_flag;
	enum asked_state asked_state;
	struct flow_key flow_key;
	struct flow_entry flow_entry;
	struct nat_entry nat_entry;
	enum nat_kind nat_kind;
	enum service_flag service_flag;
	enum backend_flag backend_flag;
	enum egress_flag egress_flag;
} abi SEC(".data.abi");
