import { Button } from "@/components/ui/button"

export default function Counter() {
    return (
        <div className="flex items-center gap-4">
            <span>{props.label}: {props.count}</span>
            <Button onClick={() => updateElement({ ...props, count: props.count + 1 })}>One more</Button>
        </div>
    )
}
